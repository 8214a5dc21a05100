//! Files with Deployments, of which some words and shapes are odd.

use std::fmt::Write as _;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::text::one_of;

/// Plain words that YAML 1.1, YAML 1.2 and Go do not all read alike.
const WORDS: &[&str] = &[
    "0400",
    "0644",
    "-0644",
    "0o644",
    "0O17",
    "0x1F",
    "-0x1f",
    "0X1f",
    "0b101",
    "-0b1",
    "0b2",
    "08",
    "09.5",
    "0",
    "-0",
    "+0",
    "00",
    "1",
    "+1",
    "-1",
    "1_000",
    "0_7",
    "_1",
    "1_",
    "-_1",
    "0x_f",
    "1e3",
    "1E3",
    "1e+06",
    "1.00064e+09",
    "1e-3",
    "1.0",
    "3.0",
    "1.5",
    "-1.5",
    "1.",
    "1.e2",
    ".5",
    "-.5",
    "+.5",
    ".5e1",
    ".",
    "-",
    "+",
    "..",
    "1e",
    "e1",
    "1e999",
    "-1e999",
    "1e-999",
    "1e20",
    "1e21",
    "123456789012345678",
    "1.2345678901234567e18",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "2147483647",
    "2147483648",
    "1:30",
    "190:20:30",
    "12:30:45.5",
    "2001-01-01",
    "2001-1-1",
    "2001-12-14t21:59:43.10-05:00",
    "2001-12-14 21:59:43.10 -5",
    "y",
    "Y",
    "yes",
    "Yes",
    "YES",
    "yEs",
    "n",
    "N",
    "no",
    "No",
    "NO",
    "on",
    "On",
    "ON",
    "off",
    "Off",
    "OFF",
    "true",
    "True",
    "TRUE",
    "tRue",
    "false",
    "False",
    "FALSE",
    "~",
    "null",
    "Null",
    "NULL",
    "nUll",
    "",
    ".nan",
    ".NaN",
    ".NAN",
    ".inf",
    "-.inf",
    "+.INF",
    "inf",
    "nan",
    "infinity",
    "<<",
    "=",
    "!",
    "a",
    "a b",
    "a#b",
    "a #b",
    "a:b",
    "a: b",
    "a:",
    ":a",
    "-a",
    "- a",
    "?a",
    "? a",
    "http://a.example",
    "nginx:1.27",
    "{a}",
    "{{a}}",
    "{{ .Values.a }}",
    "[a]",
    "[a, b]",
    "a, b",
    "a]",
    "a}",
    "*a",
    "&a",
    "&a b",
    "*b",
    "!a",
    "!a b",
    "!!str 1",
    "!!str",
    "!!int 1",
    "!!int a",
    "!!int \"12\"",
    "!!int 08",
    "!!float 1",
    "!!float a",
    "!!bool yes",
    "!!bool 1",
    "!!null ~",
    "!!null a",
    "!!binary aGVsbG8=",
    "!!binary a",
    "! 12",
    "!<tag:yaml.org,2002:str> 1",
    "!!map a",
    "!!set {a}",
    "%a",
    "@a",
    "`a`",
    "|",
    ">",
    "\"1\"",
    "'1'",
    "\"a\\tb\"",
    "\"\\x41\"",
    "\"\\u00e9\"",
    "\"\\ud83d\\ude00\"",
    "\"\\q\"",
    "\"a",
    "'a",
    "'it''s'",
    "'a' b",
    "\"a\"b",
    "é",
    "\u{1f600}",
    "a\u{85}b",
    "a\u{2028}b",
    "a\tb",
    "\ta",
    "a\u{0}",
    "a\u{7f}",
    "${A}",
    "%YAML 1.2",
    "---",
    "...",
    "# a",
];

/// A field, and a word that it takes.
const FIELDS: &[(&str, &str)] = &[
    ("replicas", "3"),
    ("replicas", "2\n  replicas: 3.0"),
    ("minReadySeconds", "10"),
    ("revisionHistoryLimit", "2"),
    ("progressDeadlineSeconds", "600"),
    ("paused", "true"),
    ("selector", "{matchLabels: {app: a}}"),
    ("strategy", "{type: Recreate}"),
    ("strategy", "{rollingUpdate: }"),
    ("unknown", "1"),
];
const POD_FIELDS: &[(&str, &str)] = &[
    ("nodeName", "node-1"),
    ("hostNetwork", "true"),
    ("terminationGracePeriodSeconds", "30"),
    ("priority", "0"),
    ("nodeSelector", "{disk: ssd}"),
    ("securityContext", "{runAsUser: 1000, fsGroup: 1.00064e+09}"),
    (
        "tolerations",
        "[{key: a, operator: Exists, tolerationSeconds: 10}]",
    ),
    ("imagePullSecrets", "[{name: pull}]"),
    (
        "volumes",
        "[{name: s, secret: {secretName: s, defaultMode: 0400}}]",
    ),
    ("volumes", "[{name: s, emptyDir: }]"),
    ("hostAliases", "[{ip: 10.0.0.1, hostnames: [a]}]"),
    ("NodeName", "node-1"),
];
const CONTAINER_FIELDS: &[(&str, &str)] = &[
    ("image", "nginx:1.27"),
    ("imagePullPolicy", "Never"),
    ("args", "[a, b]"),
    ("command", "[a]"),
    ("tty", "true"),
    ("env", "[{name: A, value: b}]"),
    ("env", "[{name: A, valueFrom: {fieldRef: {fieldPath: a}}}]"),
    ("ports", "[{containerPort: 80, name: http}]"),
    ("volumeMounts", "[{name: s, mountPath: /s, readOnly: true}]"),
    ("securityContext", "{privileged: false, runAsUser: 1e+06}"),
    ("livenessProbe", "{periodSeconds: 5}"),
];
const QUANTITIES: &[&str] = &[
    "1", "0.5", "500m", "1e3", "2.0", "\"1\"", "1_000", "0x10", "010", "~", "1Gi", "100Mi", ".5",
    "1E", "12e6",
];

/// A mapping in block style, at an indentation.
fn block(indent: usize, fields: &[(String, String)]) -> String {
    let mut text = String::new();
    for (key, value) in fields {
        let _ = writeln!(text, "{:indent$}{key}: {value}", "");
    }
    text
}

/// Returns a text for a value: the right one, an odd word, or one of a wrong shape.
fn value(right: String) -> BoxedStrategy<String> {
    prop_oneof![
        50 => Just(right),
        2 => select(WORDS).prop_map(str::to_owned),
        1 => select(WORDS).prop_map(|word| format!("[{word}]")),
        1 => select(WORDS).prop_map(|word| format!("{{a: {word}}}")),
        1 => select(WORDS).prop_map(|word| format!("\"{}\"", word.escape_debug())),
        1 => select(WORDS).prop_map(|word| format!("'{word}'")),
        1 => (select(WORDS), one_of(&["|", ">", "|-", ">-", "|+", "|2", ">1"]), 0..20usize)
            .prop_map(|(word, style, indent)| format!("{style}\n{:indent$}{word}\n{:indent$}b", "", "")),
    ]
    .boxed()
}

fn fields(
    of: &'static [(&'static str, &'static str)],
    count: std::ops::Range<usize>,
) -> impl Strategy<Value = Vec<(String, String)>> {
    let field = select(of).prop_flat_map(|(key, right)| {
        let key = prop_oneof![
            30 => Just(key.to_owned()),
            1 => Just(format!("\"{key}\"")),
            1 => Just(format!("? {key}\n")),
            1 => Just(format!("{key} ")),
        ];
        (key, value(right.to_owned()))
    });
    vec(field, count).prop_map(|mut fields| {
        // Go looks at a value that another replaces less closely than headstart does.
        let mut known = std::collections::HashSet::new();
        fields.retain(|(key, _)| known.insert(key.replace(|c: char| !c.is_alphabetic(), "")));
        fields
    })
}

fn labels() -> impl Strategy<Value = String> {
    // Each word once: two keys that are the same only as texts are Go's to choose from.
    let entry = (
        0..WORDS.len(),
        prop_oneof![2 => Just("a"), 1 => select(WORDS)],
    );
    prop_oneof![
        12 => Just("{app: a}".to_owned()),
        2 => entry.prop_map(|(key, value)| format!("{{{}: {value}}}", WORDS[key])),
        1 => one_of(&["{<<: *l, b: c}", "{app: b, <<: *l}", "{<<: [*l, {app: c}, {b: d}]}", "{<<: [{a: b}, *l]}", "{<<: a}",
            "{<<: [a]}", "{<<: }", "{\"<<\": {a: b}}", "{a: b, a: c}", "{!!merge <<: *l}", "*l", "*m", "{a: *l}", "{? a : b}",
            "{a}", "{a, b: c}", "{a:b}", "{\"a\":b}", "{a: , b: }", "{1.5: a}", "{1e6: a}", "{0x10: a}", "{~: a}", "{yes: a}",
            "{[a]: b}", "{&k a: b, *k : c}", "{18446744073709551615: a}", "{1e-7: a}", "{123456.75: a}"]),
    ]
}

/// One Deployment, of which some fields are odd.
pub(super) fn deployment() -> impl Strategy<Value = String> {
    let quantity = (select(QUANTITIES), select(QUANTITIES));
    let resources = quantity.prop_map(|(cpu, memory)| {
        format!("resources: {{limits: {{cpu: {cpu}}}, requests: {{memory: {memory}}}}}")
    });
    let resources = prop_oneof![3 => Just(String::new()), 1 => resources.prop_map(|text| format!("        {text}\n"))];
    (
        one_of(&["apps/v1", "apps/v1", "apps/v1", "apps/v1", "apps/v1", "\"apps/v1\"", "apps/v1 # c", "apps/v1beta1", ""]),
        one_of(&["{name: a}", "{name: a, namespace: b}", "{generateName: a-}", "", "{name: 1}", "{name: ~}", "[a]",
            "{name: a, creationTimestamp: null}", "{name: a, creationTimestamp: 2020-01-01T00:00:00Z}",
            "{name: a, annotations: {a: 1}}", "{name: a, annotations: {a: }}", "{name: a, finalizers: [b]}"]),
        labels(),
        labels(),
        fields(FIELDS, 0..3),
        fields(POD_FIELDS, 0..3),
        fields(CONTAINER_FIELDS, 0..4),
        resources,
        one_of(&["", "", "", "", "", "      - \n", "      - {name: b, image: c}\n", "      - {name: b\n", "      # c\n", "      initContainers:\n      - name: i\n"]),
    )
        .prop_map(|(version, metadata, first, second, spec, pod, container, resources, rest)| {
            let metadata = if metadata == "{name: a}" {
                format!("\n  name: a\n  labels: &l {first}")
            } else {
                metadata
            };
            format!(
                "apiVersion: {version}\nkind: Deployment\nmetadata: {metadata}\nspec:\n{}  template:\n    metadata:\n      labels: {second}\n    \
                 spec:\n{}      containers:\n      - name: c\n{}{resources}{rest}",
                block(2, &spec),
                block(6, &pod),
                block(8, &container),
            )
        })
}

fn document() -> impl Strategy<Value = String> {
    prop_oneof![
        20 => deployment(),
        2 => one_of(&[
            "", "# c\n", "a: b\n", "kind: A\n", "- a\n", "words\n", "kind: [A\n", "kind: {{a}}\n", "...\n", "~\n", "{}\n", "[]\n",
            "kind: List\napiVersion: v1\nitems:\n", "kind: List\napiVersion: v1\nitems: []\n", "kind: List\napiVersion: v1\nitems: a\n",
            "kind: List\napiVersion: v1\nitems: [a]\n", "kind: List\napiVersion: v1\nitems: [~]\n",
            "kind: DeploymentList\napiVersion: apps/v1\nitems: [{spec: {replicas: 3.0}}, ~]\n",
            "kind: DeploymentList\napiVersion: apps/v1\nitems: [{kind: A}, {apiVersion: apps/v1}]\n",
            "kind: DeploymentList\napiVersion: apps/v1\nitems: [{metadata: {name: a}}]\n",
            "kind: A\nspec: {limit: 18446744073709551616}\n", "kind: 1\n", "kind: ~\n", "kind: A\nitems: [{kind: B}]\n",
            "%YAML 1.1\n---\nkind: A\n", "%YAML 1.2\n---\nkind: A\n", "%TAG ! a:\n", "kind: A\n...\nkind: [\n", "kind: A\n... \n",
        ]),
        2 => one_of(&[
            "{\"kind\": \"Deployment\", \"apiVersion\": \"apps/v1\", \"spec\": {\"replicas\": 3.0}}\n",
            "{\"kind\": \"Deployment\", \"apiVersion\": \"apps/v1\",\t\"metadata\": {\"labels\": {\"a\": null}}}\n",
            "{\"kind\": \"Deployment\", \"apiVersion\": \"apps/v1\", \"spec\": {\"replicas\": 1e2, \"replicas\": 2}}",
            "{\"kind\": \"Deployment\", \"apiVersion\": \"apps/v1\", \"spec\": {\"paused\": 1}}\n",
            "{\"kind\": \"Deployment\", \"apiVersion\": \"apps/v1\", \"spec\": {\"paused\": yes}}\n",
            "{kind: Deployment, apiVersion: apps/v1, spec: {replicas: 0x10}}\n", "{\"kind\": \"A\"}\n", "{\"kind\": \"A\"", "{}", "[1]", "null",
        ]),
    ]
}

pub(super) fn file() -> impl Strategy<Value = Vec<u8>> {
    let separator = one_of(&[
        "---\n",
        "---\n",
        "---\n",
        "---\n",
        "--- # c\n",
        "---\t\n",
        "--- a\n",
        "----\n",
        "---\r\n",
    ]);
    let text = (
        one_of(&[
            "",
            "",
            "",
            "",
            "---\n",
            "\n",
            "# c\n",
            "\u{feff}",
            " ",
            "\t",
            "%YAML 1.1\n---\n",
        ]),
        vec((document(), separator), 1..4),
    );
    let text = text.prop_map(|(start, documents)| {
        let mut text = start;
        let last = documents.len() - 1;
        for (index, (document, separator)) in documents.into_iter().enumerate() {
            text += &document;
            if index < last {
                text += &separator;
            }
        }
        text
    });
    let text = text.prop_filter("read by other rules", |text| !is_read_otherwise(text));
    let form = select(vec![
        Form::Utf8,
        Form::Utf8,
        Form::Utf8,
        Form::Utf8,
        Form::Utf8,
        Form::Utf8,
        Form::CrLf,
        Form::Unended,
        Form::Utf16Be,
        Form::Latin1,
    ]);
    (text, form).prop_map(|(text, form)| form.of(&text))
}

/// Returns whether a text has what go.yaml.in/yaml/v2 reads by older rules than libyaml: in flow style a `:` right before one of
/// `,[]{}` and a `?` in a plain word, and anywhere a bracket or a comma in a tag.
pub(super) fn is_read_otherwise(text: &str) -> bool {
    let mut pairs = text.chars().zip(text.chars().skip(1));
    let is_odd_tag = |tag: &str| {
        let tag = tag.split_whitespace().next();
        tag.is_some_and(|tag| tag.contains(['[', ']', ',']))
    };
    pairs.any(|pair| match pair {
        (':', ',' | '[' | ']' | '{' | '}' | '?') => true,
        ('?', next) => next != ' ',
        (before, '?') => !" \n{[,".contains(before),
        _ => false,
    }) || text.split('!').skip(1).any(is_odd_tag)
}

/// The form in which a text is written to its file.
#[derive(Clone, Copy, Debug)]
enum Form {
    Utf8,
    CrLf,
    Unended,
    Utf16Be,
    Latin1,
}

impl Form {
    fn of(self, text: &str) -> Vec<u8> {
        match self {
            Self::Utf8 => text.into(),
            Self::CrLf => text.replace('\n', "\r\n").into(),
            Self::Unended => text.trim_end().into(),
            // In these kubectl sees no separator, and documents after the first do not matter.
            Self::Utf16Be if text.contains("---") => text.into(),
            // kubectl ends every file with a byte for a new line, which would be half a character here.
            Self::Utf16Be => ["\u{feff}", text.trim_start_matches('\u{feff}'), "\n"]
                .concat()
                .replace('\0', "")
                .encode_utf16()
                .flat_map(u16::to_be_bytes)
                .collect(),
            Self::Latin1 => text
                .chars()
                .map(|c| u8::try_from(c).unwrap_or(b'_'))
                .collect(),
        }
    }
}
