//! Stored objects.

use std::sync::OnceLock;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde::Deserialize;
use serde_json::Value;

/// Kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Namespaces.
    Namespace,
    /// Nodes.
    Node,
    /// Deployments.
    Deployment,
    /// Pods.
    Pod,
    /// ResourceQuotas.
    ResourceQuota,
    /// LimitRanges.
    LimitRange,
    /// ServiceAccounts.
    ServiceAccount,
    /// Leases.
    Lease,
    /// Events.
    Event,
}

impl Kind {
    /// The kinds that headstart watches, and of which there are objects.
    pub const WATCHED: [Self; 5] = [
        Self::Namespace,
        Self::Node,
        Self::Deployment,
        Self::Pod,
        Self::ResourceQuota,
    ];
    /// All kinds.
    pub const ALL: [Self; 9] = [
        Self::Namespace,
        Self::Node,
        Self::Deployment,
        Self::Pod,
        Self::ResourceQuota,
        Self::LimitRange,
        Self::ServiceAccount,
        Self::Lease,
        Self::Event,
    ];

    /// Returns the name in messages and paths.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Namespace => "namespaces",
            Self::Node => "nodes",
            Self::Deployment => "deployments",
            Self::Pod => "pods",
            Self::ResourceQuota => "resourcequotas",
            Self::LimitRange => "limitranges",
            Self::ServiceAccount => "serviceaccounts",
            Self::Lease => "leases",
            Self::Event => "events",
        }
    }

    /// Returns the name of the resource with its API group, as error messages have it.
    pub fn qualified(self) -> String {
        match self {
            Self::Deployment => "deployments.apps".to_owned(),
            Self::Lease => "leases.coordination.k8s.io".to_owned(),
            Self::Event => "events.events.k8s.io".to_owned(),
            kind => kind.resource().to_owned(),
        }
    }

    /// Returns the group and version in paths, and the name of the kind.
    pub fn api(self) -> (&'static str, &'static str) {
        match self {
            Self::Namespace => ("v1", "Namespace"),
            Self::Node => ("v1", "Node"),
            Self::Deployment => ("apps/v1", "Deployment"),
            Self::Pod => ("v1", "Pod"),
            Self::ResourceQuota => ("v1", "ResourceQuota"),
            Self::LimitRange => ("v1", "LimitRange"),
            Self::ServiceAccount => ("v1", "ServiceAccount"),
            Self::Lease => ("coordination.k8s.io/v1", "Lease"),
            Self::Event => ("events.k8s.io/v1", "Event"),
        }
    }

    /// Returns the kind with its API group, as some error messages have it.
    pub fn qualified_kind(self) -> String {
        let (version, kind) = self.api();
        match version.split_once('/') {
            Some((group, _)) => format!("{kind}.{group}"),
            None => kind.to_owned(),
        }
    }

    /// Returns whether objects of this kind are in namespaces.
    pub fn is_namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::Node)
    }

    /// Returns the position among all kinds.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// Names an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectKey {
    /// The kind.
    pub kind: Kind,
    /// The namespace; empty for objects of the cluster.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// Names an object in a namespace.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// One version of an object, read as its type at most once.
#[derive(Debug)]
pub struct Object {
    /// The object as JSON.
    pub value: Value,
    deployment: OnceLock<Option<Deployment>>,
    pod: OnceLock<Option<Pod>>,
    node: OnceLock<Option<Node>>,
}

impl Object {
    /// Returns a version of an object.
    pub fn new(value: Value) -> Self {
        Self {
            value,
            deployment: OnceLock::new(),
            pod: OnceLock::new(),
            node: OnceLock::new(),
        }
    }

    /// Returns the object as a Deployment.
    pub fn deployment(&self) -> &Deployment {
        let read = || Deployment::deserialize(&self.value).ok();
        let read = self.deployment.get_or_init(read).as_ref();
        read.unwrap_or_else(|| panic!("a Deployment: {}", self.value))
    }

    /// Returns the object as a pod.
    pub fn pod(&self) -> &Pod {
        let read = || Pod::deserialize(&self.value).ok();
        let read = self.pod.get_or_init(read).as_ref();
        read.unwrap_or_else(|| panic!("a pod: {}", self.value))
    }

    /// Returns the object as a node.
    pub fn node(&self) -> &Node {
        let read = || Node::deserialize(&self.value).ok();
        let read = self.node.get_or_init(read).as_ref();
        read.unwrap_or_else(|| panic!("a node: {}", self.value))
    }

    /// Returns a text of the metadata; empty without it.
    pub fn metadata(&self, field: &str) -> &str {
        self.value["metadata"][field].as_str().unwrap_or_default()
    }

    /// Returns the UID.
    pub fn uid(&self) -> &str {
        self.metadata("uid")
    }

    /// Returns the UID of the first owner.
    pub fn owner_uid(&self) -> Option<&str> {
        self.value["metadata"]["ownerReferences"][0]["uid"].as_str()
    }

    /// Returns a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.value["metadata"]["labels"][key].as_str()
    }
}
