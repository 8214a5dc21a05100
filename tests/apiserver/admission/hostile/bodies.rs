//! Bodies that a caller without credentials may send: reviews of up to 7 MiB, each made to cost as much as it can.

/// A little less than headstart reads.
const SIZE: usize = 7 * 1024 * 1024 - 4096;
/// The same twice, for an object and the one before it.
const HALF: usize = SIZE / 2;

/// A hostile body, and its description.
pub(crate) struct Hostile {
    pub(crate) what: &'static str,
    pub(crate) body: String,
}

/// Makes a body: none is kept longer than it is sent.
type Make = fn() -> String;

/// One after another: all of them at once would take more memory than the replicas may.
pub(crate) fn all() -> impl Iterator<Item = Hostile> {
    const ALL: [(&str, Make); 20] = [
        ("a selector of commas", || {
            annotated("node-selector", &"a,".repeat(SIZE / 2))
        }),
        ("a selector of distinct values", || {
            let values = fill(SIZE, |index| format!("v{index},"));
            annotated("node-selector", &format!("pool in ({values}z)"))
        }),
        ("a selector that is escaped", || {
            annotated("node-selector", &r"\u0061,".repeat(SIZE / 7))
        }),
        ("a selector that never ends", || {
            annotated("node-selector", &format!("pool in ({}", "(".repeat(SIZE)))
        }),
        ("distinct references", || {
            annotated("images", &fill(SIZE, |index| format!("a:{index},")))
        }),
        ("one long reference", || {
            annotated("images", &"a".repeat(SIZE))
        }),
        ("references that are none", || {
            annotated("images", &fill(SIZE, |index| format!("A{index},")))
        }),
        ("a long number", || {
            annotated("max-nodes", &"9".repeat(SIZE))
        }),
        ("a long duration", || {
            annotated("hold-timeout", &"1h".repeat(SIZE / 2))
        }),
        ("a long mode", || {
            let labels = format!(r#""headstart.dev/prefetch":"{}""#, "e".repeat(SIZE));
            create(&object("", &labels, CONTAINER))
        }),
        ("the same key again and again", || {
            let pairs = fill(SIZE, |index| {
                format!(r#""headstart.dev/images":"a:{index}","#)
            });
            create(&object(pairs.trim_end_matches(','), "", CONTAINER))
        }),
        ("distinct containers", || {
            let containers = fill(SIZE, |index| format!(r#"{{"image":"a:{index}"}},"#));
            create(&object("", "", &list("containers", &containers)))
        }),
        ("containers whose image is none", || {
            let containers = fill(SIZE, |index| format!(r#"{{"image":"A{index}"}},"#));
            create(&object("", "", &list("initContainers", &containers)))
        }),
        ("volumes of images", || {
            let volumes = fill(SIZE, |index| {
                format!(r#"{{"image":{{"reference":"a:{index}"}}}},"#)
            });
            create(&object("", "", &list("volumes", &volumes)))
        }),
        ("tolerations and pull secrets", || {
            let tolerations = fill(HALF, |index| format!(r#"{{"key":"k{index}"}},"#));
            let secrets = fill(HALF, |index| format!(r#"{{"name":"s{index}"}},"#));
            let lists = [
                list("tolerations", &tolerations),
                list("imagePullSecrets", &secrets),
            ];
            create(&object("", "", &format!("{CONTAINER},{}", lists.join(","))))
        }),
        ("terms of affinity", || {
            let expression = r#"{"key":"k","operator":"In","values":["v"]},"#;
            let expressions = list("matchExpressions", &fill(SIZE, |_| expression.to_owned()));
            let affinity = format!(
                r#""affinity":{{"nodeAffinity":{{"requiredDuringSchedulingIgnoredDuringExecution":{{
                "nodeSelectorTerms":[{{{expressions}}}]}}}}}}"#
            );
            create(&object("", "", &format!("{CONTAINER},{affinity}")))
        }),
        ("nothing but depth", || {
            create(&object(
                "",
                "",
                &format!(r#""containers":{}"#, "[".repeat(SIZE)),
            ))
        }),
        ("a dry run that is a text", || {
            let dry_run = format!(r#""dryRun":"{}""#, "t".repeat(SIZE));
            create(&object("", "", CONTAINER)).replace(r#""dryRun":false"#, &dry_run)
        }),
        ("a long uid", || {
            create(&object("", "", CONTAINER)).replace(UID, &"7".repeat(SIZE))
        }),
        ("an update of all that it was", || {
            let selector = |values: &str| {
                let values = fill(HALF - 4096, |index| format!("{values}{index},"));
                let annotation =
                    format!(r#""headstart.dev/node-selector":"pool notin ({values}z)""#);
                object(&annotation, "", CONTAINER)
            };
            let (new, old) = (selector("v"), selector("w").replace("app:1", "app:0"));
            review("UPDATE", &new, &old)
        }),
    ];
    ALL.into_iter()
        .map(|(what, body)| Hostile { what, body: body() })
}

const UID: &str = "705ab4f5-6393-11e8-b7cc-42010a800002";
const CONTAINER: &str = r#""containers":[{"name":"app","image":"app:1"}]"#;

/// Items until there is no room for more.
fn fill(size: usize, item: impl Fn(usize) -> String) -> String {
    let mut all = String::with_capacity(size);
    for index in 0.. {
        let next = item(index);
        if all.len() + next.len() > size {
            break;
        }
        all += &next;
    }
    all
}

fn list(name: &str, items: &str) -> String {
    format!(r#""{name}":[{}]"#, items.trim_end_matches(','))
}

fn annotated(name: &str, value: &str) -> String {
    let annotation = format!(r#""headstart.dev/{name}":"{value}""#);
    create(&object(&annotation, "", CONTAINER))
}

/// Of a Deployment that is stored, so that `/hold` looks up where its images are.
fn object(annotations: &str, labels: &str, pod: &str) -> String {
    format!(
        r#"{{"apiVersion":"apps/v1","kind":"Deployment","metadata":{{"namespace":"shop","name":"web-0","generation":1,
        "labels":{{{labels}}},"annotations":{{{annotations}}}}},
        "spec":{{"replicas":1,"template":{{"spec":{{{pod}}}}}}},
        "status":{{"replicas":1,"updatedReplicas":1,"availableReplicas":1,"observedGeneration":1}}}}"#
    )
}

fn create(object: &str) -> String {
    review("CREATE", object, "null")
}

fn review(operation: &str, object: &str, old: &str) -> String {
    format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"{UID}",
        "kind":{{"group":"apps","version":"v1","kind":"Deployment"}},"name":"web-0","namespace":"shop",
        "operation":"{operation}","dryRun":false,"object":{object},"oldObject":{old}}}}}"#
    )
}

/// A small review of an update of that Deployment: what `/hold` makes of it takes the nodes, not the bytes.
pub(crate) fn forged_hold(index: usize) -> String {
    let annotation = r#""headstart.dev/node-selector":"pool notin (a,b,c)""#;
    let new = object(annotation, "", CONTAINER);
    let new = new.replace("app:1", &format!("app:forged-{index}"));
    review("UPDATE", &new, &object(annotation, "", CONTAINER))
}
