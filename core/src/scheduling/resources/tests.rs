use super::*;
use serde_json::{Value, json};

fn requested(spec: Value) -> Resources {
    Resources::requested(&serde_json::from_value(spec).unwrap())
}

fn allocatable(status: Value) -> Resources {
    Resources::allocatable(&serde_json::from_value(status).unwrap())
}

fn asks(resources: Value) -> Value {
    json!({"name": "c", "image": "a:1", "resources": resources})
}

/// The sentence about the first resource that is missing; empty if nothing is.
fn missing(spec: &Resources, node: Value) -> String {
    let node = allocatable(node);
    let insufficient = spec
        .insufficient(&node, &IgnoredResources::default())
        .next();
    insufficient.map_or_else(String::new, |insufficient| insufficient.to_string())
}

#[test]
fn limits_count_where_nothing_is_requested() {
    let pod = requested(json!({"containers": [
        asks(json!({"limits": {"nvidia.com/gpu": 1, "cpu": "4"}, "requests": {"cpu": "500m"}})),
    ]}));
    assert_eq!(
        missing(&pod, json!({"cpu": "1", "nvidia.com/gpu": "0"})),
        "a pod wants nvidia.com/gpu: 1, the node has none"
    );
    assert_eq!(
        missing(&pod, json!({"cpu": "1", "nvidia.com/gpu": "8"})),
        ""
    );
    assert_eq!(
        missing(&pod, json!({"cpu": "250m", "nvidia.com/gpu": "1"})),
        "a pod wants cpu: 500m, the node has 250m"
    );
}

#[test]
fn containers_add_up_with_sidecars_and_overhead_and_init_containers_run_before_them() {
    let memory = |amount: &str| asks(json!({"requests": {"memory": amount}}));
    let sidecar = json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"memory": "2Gi"}}});
    let of = |init: Value, containers: Value| {
        requested(json!({"initContainers": init, "containers": containers, "overhead": {"memory": "1Gi"}})).memory >> 30
    };
    let two = || json!([memory("1Gi"), memory("2Gi")]);
    assert_eq!(of(json!([]), two()), 4);
    assert_eq!(of(json!([memory("7Gi")]), two()), 8, "the init container's");
    assert_eq!(of(json!([memory("1Gi"), memory("1Gi")]), two()), 4);
    assert_eq!(of(json!([sidecar]), two()), 6);
    assert_eq!(
        of(json!([sidecar, memory("4Gi")]), two()),
        7,
        "beside the sidecar"
    );
    assert_eq!(
        of(json!([memory("4Gi"), sidecar]), two()),
        6,
        "before the sidecar"
    );
}

#[test]
fn the_resources_of_the_pod_take_the_place_of_its_containers() {
    let of = |pod: Value| {
        let container = asks(json!({"requests": {"cpu": "1", "hugepages-2Mi": "4Mi"}}));
        let resources = requested(json!({"containers": [container], "resources": pod}));
        (
            resources.cpu,
            resources.memory >> 20,
            resources.scalar("hugepages-2Mi") >> 20,
        )
    };
    assert_eq!(
        of(json!({"requests": {"cpu": "3", "memory": "9Mi"}})),
        (3000, 9, 4)
    );
    let limits =
        json!({"limits": {"cpu": "3", "memory": "9Mi", "hugepages-2Mi": "8Mi", "a.io/b": "1"}});
    assert_eq!(of(limits), (1000, 9, 8));
}

#[test]
fn a_resource_that_no_node_reports_does_not_count() {
    let pod = requested(json!({"containers": [asks(json!({"limits": {
        "deviceclass.resource.kubernetes.io/gpu": 1, "requests.example.com/a": 1, "example": 1,
    }}))]}));
    assert_eq!(pod, Resources::default());
    assert_eq!(missing(&pod, json!({"pods": "110"})), "");
}

#[test]
fn a_resource_may_be_ignored() {
    let pod = requested(json!({"containers": [asks(json!({"limits": {"nvidia.com/gpu": 1}}))]}));
    let (node, ignored) = (
        allocatable(json!({"pods": "110"})),
        "nvidia.com/gpu".parse().unwrap(),
    );
    assert_eq!(pod.insufficient(&node, &ignored).next(), None);
    assert_eq!(
        pod.insufficient(&node, &"a.io/b".parse().unwrap()).count(),
        1
    );
}

#[test]
fn amounts_are_printed_as_people_write_them() {
    let memory = |amount: &str| {
        requested(json!({"containers": [asks(json!({"requests": {"memory": amount}}))]}))
    };
    let has = |amount: &str| json!({"memory": amount});
    for (asked, node, expected) in [
        (
            "20Gi",
            "7834567Ki",
            "a pod wants memory: 20Gi, the node has 7650Mi",
        ),
        ("2Ti", "1024Gi", "a pod wants memory: 2Ti, the node has 1Ti"),
        ("1500M", "1", "a pod wants memory: 1431Mi, the node has 1"),
    ] {
        assert_eq!(missing(&memory(asked), has(node)), expected);
    }
    let huge =
        requested(json!({"containers": [asks(json!({"limits": {"hugepages-1Gi": "2Gi"}}))]}));
    assert_eq!(
        missing(&huge, json!({"hugepages-1Gi": "1Gi"})),
        "a pod wants hugepages-1Gi: 2Gi, the node has 1Gi"
    );
    let cores = requested(json!({"containers": [asks(json!({"requests": {"cpu": "64"}}))]}));
    assert_eq!(
        missing(&cores, json!({"cpu": "3920m"})),
        "a pod wants cpu: 64, the node has 3920m"
    );
}

#[test]
fn each_quantity_counts_in_whole_thousandths_as_the_api_server_stores_it() {
    let cpu = || asks(json!({"requests": {"cpu": "1500001u"}}));
    assert_eq!(requested(json!({"containers": [cpu(), cpu()]})).cpu, 3002);
    assert_eq!(allocatable(json!({"cpu": "1500000001n"})).cpu, 1501);
}
