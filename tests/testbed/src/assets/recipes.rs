//! The recipe of each program: its source, version and flags.

use super::CONTAINERD_VERSION;

/// The place of a program's source.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) enum Source {
    /// A package of our own Go module.
    Own(&'static str),
    /// A package of a published Go module, at a version.
    Module(&'static str, &'static str),
    /// A C file of ours.
    C(&'static str),
}

/// One program.
#[derive(Clone, Copy, Debug, Hash)]
pub(super) struct Recipe {
    pub(super) name: &'static str,
    pub(super) source: Source,
    /// Go build tags.
    pub(super) tags: &'static str,
    /// Flags of Go's linker.
    pub(super) ldflags: &'static str,
    /// Linked with C, statically.
    pub(super) cgo: bool,
    /// The time of a cold build on two cores, where that is long.
    pub(super) takes: Option<&'static str>,
}

const KWOK_VERSION: &str = "v0.8.0";
const RUNC_VERSION: &str = "v1.5.2";
const CNI_VERSION: &str = "v1.9.1";
const CONTAINERD_TAGS: &str = "no_btrfs no_devmapper no_zfs";

/// Without its version the server says v0.0.0 and clients complain.
const KUBERNETES_LDFLAGS: &str = "-s -w -X k8s.io/component-base/version.gitVersion=v1.37.2 \
     -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37";

const fn go(name: &'static str, source: Source) -> Recipe {
    Recipe {
        name,
        source,
        tags: "",
        ldflags: "-s -w",
        cgo: false,
        takes: None,
    }
}

/// For control planes and fake nodes; needs no C compiler.
pub(super) const CONTROL_PLANE: &[Recipe] = &[
    go("tools", Source::Own("./tools")),
    Recipe {
        ldflags: KUBERNETES_LDFLAGS,
        takes: Some("about 10 minutes"),
        ..go("kubernetes", Source::Own("./kubernetes"))
    },
    Recipe {
        takes: Some("about 2 minutes"),
        ..go(
            "kwok",
            Source::Module("sigs.k8s.io/kwok/cmd/kwok", KWOK_VERSION),
        )
    },
];

/// For differential tests.
pub(super) const ORACLE: &[Recipe] = &[Recipe {
    takes: Some("about a minute"),
    ..go("oracle", Source::Own("./oracle"))
}];

/// For real nodes.
pub(super) const NODE: &[Recipe] = &[
    Recipe {
        name: "pause",
        source: Source::C("pause/pause.c"),
        tags: "",
        ldflags: "",
        cgo: true,
        takes: None,
    },
    go("runc-wrapper", Source::Own("./runc-wrapper")),
    containerd(
        "containerd",
        "github.com/containerd/containerd/v2/cmd/containerd",
    ),
    containerd(
        "containerd-shim-runc-v2",
        "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
    ),
    Recipe {
        tags: "netgo osusergo",
        ldflags: "-s -w -extldflags -static",
        cgo: true,
        ..go(
            "runc",
            Source::Module("github.com/opencontainers/runc", RUNC_VERSION),
        )
    },
    cni(
        "bridge",
        "github.com/containernetworking/plugins/plugins/main/bridge",
    ),
    cni(
        "host-local",
        "github.com/containernetworking/plugins/plugins/ipam/host-local",
    ),
];

const fn containerd(name: &'static str, package: &'static str) -> Recipe {
    Recipe {
        tags: CONTAINERD_TAGS,
        takes: Some("about a minute"),
        ..go(name, Source::Module(package, CONTAINERD_VERSION))
    }
}

const fn cni(name: &'static str, package: &'static str) -> Recipe {
    go(name, Source::Module(package, CNI_VERSION))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assets::KUBERNETES_VERSION;

    #[test]
    fn the_linker_is_told_the_version_that_is_built() {
        let version = format!("gitVersion={KUBERNETES_VERSION} ");
        assert!(
            KUBERNETES_LDFLAGS.contains(&version),
            "{KUBERNETES_LDFLAGS} does not say {version}"
        );
    }
}
