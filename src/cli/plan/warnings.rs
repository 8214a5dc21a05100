//! Warnings about a Deployment that its plan does not show: reasons for left-out images, and marks of a hold.

use k8s_openapi::api::apps::v1::Deployment;

use headstart_core::api::well_known::{HELD_LABEL, HELD_SINCE, HELD_UNTIL};

/// Returns the warnings about images that are not prefetched, and about the marks of a hold.
pub(super) fn of(deployment: &Deployment) -> Vec<String> {
    images(deployment).chain(hold(deployment)).collect()
}

fn images(deployment: &Deployment) -> impl Iterator<Item = String> + '_ {
    let spec = deployment.spec.as_ref();
    let pod = spec.and_then(|spec| spec.template.spec.as_ref());
    let containers = move || {
        pod.into_iter().flat_map(|pod| {
            let init = pod.init_containers.iter().flatten();
            init.chain(&pod.containers)
        })
    };
    let none = pod.is_some() && containers().next().is_none();
    let none = none.then(|| "it has no containers".to_owned());
    let of_containers =
        containers().filter_map(
            |container| match container.image.as_deref().unwrap_or_default() {
                "" => Some(format!("container {:?} names no image", container.name)),
                image => never_pulled(image, container.image_pull_policy.as_deref()),
            },
        );
    let volumes = pod.into_iter().flat_map(|pod| pod.volumes.iter().flatten());
    let of_volumes = volumes.filter_map(|volume| {
        let image = volume.image.as_ref()?;
        never_pulled(image.reference.as_deref()?, image.pull_policy.as_deref())
    });
    none.into_iter().chain(of_containers).chain(of_volumes)
}

fn never_pulled(image: &str, policy: Option<&str>) -> Option<String> {
    let never = policy == Some("Never");
    never.then(|| format!("image {image:?} is never pulled (imagePullPolicy: Never)"))
}

/// Warns of a Deployment that `kubectl get -o yaml` wrote during a hold.
fn hold(deployment: &Deployment) -> Option<String> {
    let metadata = &deployment.metadata;
    let labels = metadata.labels.iter().flatten();
    let annotations = metadata.annotations.iter().flatten();
    let mut keys = labels.chain(annotations).map(|(key, _)| key);
    let paused = deployment.spec.as_ref().and_then(|spec| spec.paused);
    let is_held = paused == Some(true) && keys.any(|key| key.starts_with(HELD_LABEL));
    is_held.then(|| {
        format!(
            "it was written out during a hold: applied where no headstart runs, it stays paused; \
             remove spec.paused, the label {HELD_LABEL} and the annotations {HELD_SINCE} and {HELD_UNTIL}"
        )
    })
}

/// Returns a hint about a likely mistake in an image reference that no runtime accepts.
pub(super) fn meant(image: &str) -> Option<String> {
    if image.contains("{{") {
        return Some(
            "it looks like a template; render it first: helm template … | headstart plan -f -"
                .to_owned(),
        );
    }
    if image.contains("${") || image.contains("$(") {
        return Some("a variable in it was not replaced".to_owned());
    }
    if let Some((scheme, rest)) = image.split_once("://") {
        return Some(format!("a reference has no scheme ({scheme}://): {rest}"));
    }
    match (image.trim_start() != image, image.trim_end() != image) {
        (true, _) => Some("it begins with a space".to_owned()),
        (_, true) => Some("it ends with a space".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn warnings(metadata: &Value, paused: bool, pod: &Value) -> Vec<String> {
        let template = json!({"spec": pod});
        of(&serde_json::from_value(json!({
            "metadata": metadata, "spec": {"paused": paused, "template": template, "selector": {}},
        }))
        .unwrap())
    }

    #[test]
    fn images_that_are_left_out_are_named() {
        let never = json!({"name": "a", "image": "a:1", "imagePullPolicy": "Never"});
        let pod = json!({"initContainers": [never], "containers": [{"name": "b"}, {"name": "c", "image": "c:1"}],
            "volumes": [{"name": "d", "image": {"reference": "d:1", "pullPolicy": "Never"}}]});
        assert_eq!(
            warnings(&json!({}), false, &pod),
            [
                "image \"a:1\" is never pulled (imagePullPolicy: Never)",
                "container \"b\" names no image",
                "image \"d:1\" is never pulled (imagePullPolicy: Never)",
            ]
        );
        let nothing = warnings(&json!({}), false, &json!({"containers": []}));
        assert_eq!(nothing, ["it has no containers"]);
    }

    #[test]
    fn a_hold_that_was_written_out_is_told() {
        let pod = json!({"containers": [{"name": "c", "image": "c:1"}]});
        for held in [
            json!({"labels": {HELD_LABEL: "true"}}),
            json!({"annotations": {HELD_UNTIL: "2030-01-01T00:00:00Z"}}),
        ] {
            let said = warnings(&held, true, &pod);
            assert!(
                said.len() == 1 && said[0].contains("stays paused"),
                "{said:?}"
            );
            assert!(warnings(&held, false, &pod).is_empty());
        }
        assert!(warnings(&json!({}), true, &pod).is_empty());
    }

    #[test]
    fn what_was_meant_is_guessed() {
        for (image, phrase) in [
            ("${IMAGE}:${TAG}", "not replaced"),
            (
                "https://ghcr.io/acme/a:1",
                "no scheme (https://): ghcr.io/acme/a:1",
            ),
            (" nginx:1", "begins with a space"),
            ("nginx:1\n", "ends with a space"),
            ("{{ .Values.image }}", "helm template"),
        ] {
            let said = meant(image).unwrap();
            assert!(said.contains(phrase), "{image:?}: {said}");
        }
        assert_eq!(meant("Not Valid"), None);
    }
}
