use super::*;
use crate::pod::prefetch_pod;
use crate::scheduling::node::PullMethod;
use crate::testing::{settings, wants};
use serde_json::{Value, json};

fn bounds(limits: &[Value]) -> ResourceBounds {
    let mut all = ResourceBounds::default();
    for limit in limits {
        let range = json!({"spec": {"limits": [limit]}});
        let range = serde_json::from_value(range).unwrap();
        all.merge(&ResourceBounds::from_limit_range(&range));
    }
    all
}

/// The pod spec for so many images, after it is fitted.
fn fitted(images: usize, method: PullMethod, limits: &[Value]) -> Result<PodSpec, String> {
    let images: Vec<String> = (0..images).map(|n| format!("app{n}:1")).collect();
    let images: Vec<&str> = images.iter().map(String::as_str).collect();
    let mut spec = prefetch_pod(&wants(&images), "n1", method, &settings())
        .spec
        .unwrap();
    bounds(limits).fit(&mut spec)?;
    Ok(spec)
}

/// The resources of the only container.
fn resources(limits: &[Value]) -> Value {
    let spec = fitted(1, PullMethod::ImageVolume, limits).unwrap();
    serde_json::to_value(&spec.containers[0].resources).unwrap()
}

fn unmet(images: usize, limits: &[Value]) -> String {
    fitted(images, PullMethod::ImageVolume, limits).unwrap_err()
}

#[test]
fn without_a_bound_nothing_changes() {
    let own = json!({"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"cpu": "100m", "memory": "32Mi"}});
    assert_eq!(resources(&[]), own);
    let claims = json!({"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}});
    assert_eq!(resources(&[claims]), own);
    let wide =
        json!({"type": "Container", "min": {"cpu": "1m"}, "max": {"cpu": "4", "memory": "8Gi"}});
    assert_eq!(resources(&[wide]), own);
}

#[test]
fn requests_are_raised_to_the_minimum_and_limits_with_them() {
    let low = json!({"type": "Container", "min": {"cpu": "10m", "memory": "16Mi"}});
    assert_eq!(
        resources(&[low]),
        json!({"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": "32Mi"}})
    );
    let high = json!({"type": "Container", "min": {"cpu": "0.2", "memory": "64Mi"}});
    assert_eq!(
        resources(&[high]),
        json!({"requests": {"cpu": "200m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}})
    );
}

#[test]
fn limits_stay_below_the_maximum() {
    let max = json!({"type": "Container", "max": {"cpu": "50m", "memory": "16Mi"}});
    assert_eq!(
        resources(&[max]),
        json!({"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"cpu": "50m", "memory": "16Mi"}})
    );
}

#[test]
fn requests_are_raised_until_the_ratio_is_met() {
    let ratio = json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "2", "memory": "2"}});
    assert_eq!(
        resources(std::slice::from_ref(&ratio)),
        json!({"requests": {"cpu": "50m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": "32Mi"}})
    );
    let one = json!({"type": "Pod", "maxLimitRequestRatio": {"cpu": "1"}});
    let tightest = resources(&[ratio, one]);
    assert_eq!(tightest["requests"]["cpu"], "100m", "all LimitRanges apply");
    let broken = json!({"type": "Container", "maxLimitRequestRatio": {"cpu": "1.5"}});
    assert_eq!(resources(&[broken])["requests"]["cpu"], "68m");
}

#[test]
fn defaults_do_not_make_a_container_larger() {
    let default = json!({
        "type": "Container",
        "default": {"cpu": "2", "ephemeral-storage": "10Gi", "nvidia.com/gpu": "1"},
        "defaultRequest": {"cpu": "1", "ephemeral-storage": "10Gi", "nvidia.com/gpu": "1"},
    });
    assert_eq!(
        resources(&[default]),
        json!({
            "requests": {"cpu": "1m", "memory": "1Mi", "ephemeral-storage": "1Mi", "nvidia.com/gpu": "0"},
            "limits": {"cpu": "100m", "memory": "32Mi", "ephemeral-storage": "256Mi", "nvidia.com/gpu": "0"},
        })
    );
}

#[test]
fn the_sum_over_the_containers_of_a_pod_is_within_its_bounds() {
    let pod = json!({
        "type": "Pod", "min": {"cpu": "100m", "memory": "64Mi"}, "max": {"cpu": "120m", "memory": "96Mi"},
    });
    for method in [PullMethod::ImageVolume, PullMethod::Container] {
        let spec = fitted(3, method, std::slice::from_ref(&pod)).unwrap();
        let all = spec
            .init_containers
            .iter()
            .flatten()
            .chain(&spec.containers);
        for container in all {
            let resources = serde_json::to_value(&container.resources).unwrap();
            assert_eq!(resources["requests"]["cpu"], "34m", "{method:?}");
            assert_eq!(resources["limits"]["cpu"], "40m", "{method:?}");
        }
    }
}

#[test]
fn a_bound_that_no_prefetch_pod_meets_is_named() {
    let large = json!({"type": "Container", "min": {"cpu": "2"}});
    assert_eq!(
        unmet(1, &[large]),
        "each container needs 2000m of cpu, and prefetch pods ask for at most 500m"
    );
    let device = json!({"type": "Container", "min": {"nvidia.com/gpu": "1"}});
    assert_eq!(
        unmet(1, &[device]),
        "each container needs 1 of nvidia.com/gpu, and prefetch pods ask for at most 0"
    );
    let small = json!({"type": "Pod", "max": {"memory": "1Gi"}});
    let min = json!({"type": "Container", "min": {"memory": "256Mi"}});
    assert!(fitted(4, PullMethod::ImageVolume, &[small.clone(), min.clone()]).is_ok());
    assert_eq!(
        unmet(5, &[small, min]),
        "each container needs at least 256Mi of memory, and may have at most 214748364"
    );
    let none = json!({"type": "Container", "max": {"cpu": "0"}});
    assert!(unmet(1, &[none]).contains("at most 0m"));
}
