//! Tells which option makes prefetch pods pass a policy that is not headstart's.

/// A reason of policies by a word in their message, and the option that answers it. The first that matches counts.
const BY_WORD: [(&str, &str); 6] = [
    (
        "runasuser",
        "--run-as-user=none lets the cluster choose the user",
    ),
    (
        "runasgroup",
        "--run-as-user=none lets the cluster choose the user",
    ),
    (
        "annotation",
        "--pod-annotations adds annotations to prefetch pods",
    ),
    ("label", "--pod-labels adds labels to prefetch pods"),
    (
        "registr",
        "--noop-image names headstart's image in your registry",
    ),
    (
        "image",
        "--noop-image names headstart's image in your registry",
    ),
];
/// For a policy that says none of this.
const OTHERWISE: &str = "prefetch pods are changed by --pod-labels, --pod-annotations, --noop-image, --run-as-user and --pull-method";
/// The end of the name of headstart's own policy, as the API server quotes it. An overlay may put something before it.
const OWN_POLICY: &str = "headstart-creates-only-prefetch-pods'";
/// Phrases by which the API server tells that an admission policy refuses.
const BY_POLICY: [&str; 3] = [
    "validatingadmissionpolicy '",
    "admission webhook \"",
    "security context constraint",
];

/// Returns the option to set where the API server's message says that an admission policy refuses a prefetch pod.
pub(super) fn option_for(message: &str) -> Option<&'static str> {
    let message = message.to_lowercase();
    let by_policy = BY_POLICY.iter().any(|phrase| message.contains(phrase));
    if !by_policy || message.contains(OWN_POLICY) {
        return None;
    }
    // The name of the policy says less than its message.
    let said = message
        .rsplit_once("denied")
        .map_or(&*message, |(_, said)| said);
    let mut by_word = BY_WORD.iter();
    let found = by_word.find(|(word, _)| said.contains(word));
    Some(found.map_or(OTHERWISE, |(_, option)| option))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_refuses_is_answered_by_an_option() {
        for (message, option) in [
            (
                "pods \"prefetch-web\" is forbidden: ValidatingAdmissionPolicy 'pods-need-team' with binding 'images' denied \
                 request: pods need the label team",
                "--pod-labels",
            ),
            (
                "admission webhook \"validation.gatekeeper.sh\" denied the request: [must-have] you must provide annotation: \
                 a8r.io/owner",
                "--pod-annotations",
            ),
            (
                "admission webhook \"validate.kyverno.svc-fail\" denied the request: Unknown registry",
                "--noop-image",
            ),
            (
                "unable to validate against any security context constraint: [provider \"anyuid\": Forbidden: not usable, \
                 provider restricted-v2: .containers[0].runAsUser: Invalid value: 65532: must be in the ranges: [1000680000]]",
                "--run-as-user=none",
            ),
            (
                "admission webhook \"labels.example.com\" denied the request: no",
                "--pod-labels, --pod-annotations, --noop-image, --run-as-user",
            ),
        ] {
            let said = option_for(message).unwrap_or_default();
            assert!(said.contains(option), "{message}: {said}");
        }
    }

    #[test]
    fn another_refusal_is_answered_by_no_option() {
        for message in [
            "pods \"prefetch-web\" is forbidden: exceeded quota: labels",
            "pods is forbidden: User \"headstart\" cannot create resource",
            "ValidatingAdmissionPolicy 'hs-headstart-creates-only-prefetch-pods' with binding 'a' denied request: no label",
        ] {
            assert_eq!(option_for(message), None, "{message}");
        }
    }
}
