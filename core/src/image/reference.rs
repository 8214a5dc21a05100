//! Image references, normalised as the container runtimes do.
//!
//! The grammar and the rules are those of `github.com/distribution/reference` (`ParseNormalizedNamed`,
//! then `TagNameOnly`), which containerd, CRI-O and the kubelet share. As in containerd, a reference with
//! both a tag and a digest keeps the digest and drops the tag.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::limits::{IMAGE_BYTES, SHOWN_BYTES, shown};

/// The registry that a reference without a host means.
const DEFAULT_REGISTRY: &str = "docker.io";
/// An older name of it that references may still carry.
const LEGACY_DEFAULT_REGISTRY: &str = "index.docker.io";
/// The namespace of single-name repositories on the default registry.
const OFFICIAL_NAMESPACE: &str = "library";
/// The tag that a reference without tag or digest means.
const DEFAULT_TAG: &str = "latest";
/// `RepositoryNameTotalLengthMax` of distribution/reference, in bytes.
const MAX_REPOSITORY_LENGTH: usize = 255;
/// A tag is one word character and up to 127 more.
const MAX_TAG_LENGTH: usize = 128;

/// A normalised image reference: `registry/repository:tag` or `registry/repository@digest`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageRef {
    /// All of it, in one piece of memory: every replica keeps those of all Deployments.
    text: Arc<str>,
    /// The end of the registry in the text.
    registry: u16,
}

/// The reason why a string is not an image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidImage {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// Longer than any reference that a runtime takes.
    #[error("it is longer than {IMAGE_BYTES} bytes")]
    TooManyBytes,
    /// Indistinguishable from an image ID.
    #[error("64 hexadecimal digits are an image ID, not a name")]
    ImageId,
    /// An upper-case letter in the repository.
    #[error("the repository name must be lower case")]
    UpperCase,
    /// The host part is not a host.
    #[error("{0:?} is not a registry host, with or without a port")]
    Registry(String),
    /// The repository part breaks the grammar.
    #[error(
        "{0:?} is not a repository name: lower-case letters and digits, separated by '.', '_', '__' or '-', in parts separated by '/'"
    )]
    Repository(String),
    /// The repository is too long.
    #[error("the repository name is longer than {MAX_REPOSITORY_LENGTH} bytes")]
    TooLong,
    /// The tag breaks the grammar.
    #[error(
        "{0:?} is not a tag: up to {MAX_TAG_LENGTH} letters, digits, '_', '.' and '-', not beginning with '.' or '-'"
    )]
    Tag(String),
    /// The digest breaks the grammar, or names an algorithm that no runtime has.
    #[error(
        "{0:?} is not a digest: use sha256:, sha384: or sha512: and its lower-case hexadecimal digits"
    )]
    Digest(String),
}

impl ImageRef {
    /// The registry's host, with its port if it has one.
    pub fn registry(&self) -> &str {
        let (registry, _) = self.text.split_at(usize::from(self.registry));
        registry
    }

    /// The whole reference, to be shared.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Returns whether both are of one repository, with any tags or digests.
    pub fn is_of_repository(&self, other: &Self) -> bool {
        self.repository() == other.repository()
    }

    /// The reference without tag or digest: the registry may have a colon of its own.
    fn repository(&self) -> &str {
        let (_, rest) = self.text.split_at(usize::from(self.registry));
        let name = rest.find(['@', ':']).unwrap_or(rest.len());
        let (repository, _) = self.text.split_at(usize::from(self.registry) + name);
        repository
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for ImageRef {
    type Err = InvalidImage;

    fn from_str(reference: &str) -> Result<Self, InvalidImage> {
        if reference.is_empty() {
            return Err(InvalidImage::Empty);
        }
        if reference.len() > IMAGE_BYTES {
            return Err(InvalidImage::TooManyBytes);
        }
        if reference.len() == 64 && reference.bytes().all(is_lower_hex) {
            return Err(InvalidImage::ImageId);
        }
        let (registry, rest) = split_registry(reference);
        // Everything up to the first colon must be lower case, as the reference implementation has it:
        // it checks before it looks for a digest.
        if rest
            .split(':')
            .next()
            .is_some_and(|name| name.bytes().any(|b| b.is_ascii_uppercase()))
        {
            return Err(InvalidImage::UpperCase);
        }
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (rest, None),
        };
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        // The reference implementation takes the whole name as a repository where its first part is no host
        // but could be a repository's (`a_b.io/app`). The runtimes ask that "host" all the same.
        let hostless = !is_registry(registry);
        if hostless && !is_path_component(registry) {
            return Err(InvalidImage::Registry(named(registry)));
        }
        let repository = if registry == DEFAULT_REGISTRY && !rest.contains('/') {
            format!("{OFFICIAL_NAMESPACE}/{repository}")
        } else {
            repository.to_owned()
        };
        if !repository.split('/').all(is_path_component) {
            return Err(InvalidImage::Repository(named(&repository)));
        }
        let prefix = if hostless { registry.len() + 1 } else { 0 };
        if prefix + repository.len() > MAX_REPOSITORY_LENGTH {
            return Err(InvalidImage::TooLong);
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(InvalidImage::Tag(named(tag)));
        }
        if let Some(digest) = digest.filter(|digest| !is_digest(digest)) {
            return Err(InvalidImage::Digest(named(digest)));
        }
        let (sign, version) = match digest {
            Some(digest) => ('@', digest),
            None => (':', tag.unwrap_or(DEFAULT_TAG)),
        };
        Ok(Self {
            text: format!("{registry}/{repository}{sign}{version}").into(),
            // References are shorter than 64 KiB.
            registry: u16::try_from(registry.len()).unwrap_or_default(),
        })
    }
}

/// The part of the input that an error repeats.
fn named(text: &str) -> String {
    shown(text, SHOWN_BYTES).into_owned()
}

/// Splits off the registry. What stands before the first slash is one if it could not be a repository's
/// first part: it has a dot, a colon or an upper-case letter, or it is `localhost`.
fn split_registry(reference: &str) -> (&str, &str) {
    let Some((first, rest)) = reference.split_once('/') else {
        return (DEFAULT_REGISTRY, reference);
    };
    if first == LEGACY_DEFAULT_REGISTRY {
        return (DEFAULT_REGISTRY, rest);
    }
    if first == "localhost" || first.contains(['.', ':']) || first.chars().any(char::is_uppercase) {
        return (first, rest);
    }
    (DEFAULT_REGISTRY, reference)
}

fn is_registry(registry: &str) -> bool {
    if let Some(rest) = registry.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        let port = match port.strip_prefix(':') {
            Some(port) => is_port(port),
            None => port.is_empty(),
        };
        return port
            && !address.is_empty()
            && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
    }
    let (host, port) = match registry.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (registry, None),
    };
    port.is_none_or(is_port) && host.split('.').all(is_host_label)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

fn is_host_label(label: &str) -> bool {
    !label.is_empty()
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// Runs of lower-case letters and digits, separated by one '.', one or two '_', or any number of '-'.
fn is_path_component(part: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let (Some(first), Some(last)) = (part.bytes().next(), part.bytes().last()) else {
        return false;
    };
    is_word(first)
        && is_word(last)
        && part
            .split(|c: char| u8::try_from(c).is_ok_and(is_word))
            .filter(|separator| !separator.is_empty())
            .all(|separator| {
                matches!(separator, "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
            })
}

fn is_tag(tag: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= MAX_TAG_LENGTH
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|b| is_word(b) || b == b'.' || b == b'-')
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else {
        return false;
    };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    hex.len() == length && hex.bytes().all(is_lower_hex)
}

fn is_lower_hex(b: u8) -> bool {
    b.is_ascii_digit() || (b'a'..=b'f').contains(&b)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn references_are_normalised_as_the_runtimes_do() {
        let table = [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("library/nginx", "docker.io/library/nginx:latest"),
            ("acme/shop:v1", "docker.io/acme/shop:v1"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app:v1", "localhost:5000/app:v1"),
            ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest"),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
            (
                "ghcr.io/acme/a__b.c--d:V1.0_x",
                "ghcr.io/acme/a__b.c--d:V1.0_x",
            ),
            ("Host/app", "Host/app:latest"),
            ("a_b.io/app", "a_b.io/app:latest"),
        ];
        for (given, expected) in table {
            let image: ImageRef = given
                .parse()
                .unwrap_or_else(|error| panic!("{given}: {error}"));
            assert_eq!(image.to_string(), expected);
            assert_eq!(
                image.to_string().parse(),
                Ok(image),
                "{expected} must read back"
            );
        }
    }

    #[test]
    fn a_repository_is_the_same_by_tag_and_by_digest() {
        let image = |text: &str| text.parse::<ImageRef>().unwrap();
        let tagged = image("registry.example:5000/infra/headstart:v1");
        let digest = format!(
            "registry.example:5000/infra/headstart@sha256:{}",
            "a".repeat(64)
        );
        assert!(tagged.is_of_repository(&image(&digest)));
        assert!(image("nginx").is_of_repository(&image("docker.io/library/nginx:1")));
        for other in [
            "registry.example:5000/infra/headstart2:v1",
            "registry.example/infra/headstart:v1",
        ] {
            assert!(!tagged.is_of_repository(&image(other)), "{other}");
        }
    }

    #[test]
    fn a_digest_wins_over_a_tag() {
        let image: ImageRef = format!("nginx:1.27@{DIGEST}").parse().unwrap();
        assert_eq!(
            image.to_string(),
            format!("docker.io/library/nginx@{DIGEST}")
        );
    }

    #[test]
    fn what_is_not_a_reference_says_why() {
        let table = [
            ("", InvalidImage::Empty),
            (&DIGEST[7..], InvalidImage::ImageId),
            ("Nginx", InvalidImage::UpperCase),
            ("acme/Shop:v1", InvalidImage::UpperCase),
            ("-host.io/app", InvalidImage::Registry("-host.io".into())),
            ("host.io:x/app", InvalidImage::Registry("host.io:x".into())),
            ("ghcr.io/a//b", InvalidImage::Repository("a//b".into())),
            ("ghcr.io/a..b", InvalidImage::Repository("a..b".into())),
            ("nginx:", InvalidImage::Tag(String::new())),
            ("nginx:.1", InvalidImage::Tag(".1".into())),
            (
                "nginx@sha256:abc",
                InvalidImage::Digest("sha256:abc".into()),
            ),
            (
                "nginx 1",
                InvalidImage::Repository("library/nginx 1".into()),
            ),
            (
                "nginx\n",
                InvalidImage::Repository("library/nginx\n".into()),
            ),
        ];
        for (given, expected) in table {
            assert_eq!(given.parse::<ImageRef>(), Err(expected), "{given:?}");
        }
    }

    #[test]
    fn lengths_have_limits() {
        assert!(
            format!("nginx:{}", "a".repeat(128))
                .parse::<ImageRef>()
                .is_ok()
        );
        assert!(
            format!("nginx:{}", "a".repeat(129))
                .parse::<ImageRef>()
                .is_err()
        );
        assert!(
            format!("ghcr.io/{}", "a".repeat(255))
                .parse::<ImageRef>()
                .is_ok()
        );
        assert_eq!(
            format!("ghcr.io/{}", "a".repeat(256)).parse::<ImageRef>(),
            Err(InvalidImage::TooLong)
        );
        let message = format!("ghcr.io/{}!", "a".repeat(1000))
            .parse::<ImageRef>()
            .unwrap_err()
            .to_string();
        assert!(message.len() < 400, "{message}");
        assert_eq!(
            "a".repeat(IMAGE_BYTES + 1).parse::<ImageRef>(),
            Err(InvalidImage::TooManyBytes)
        );
    }
}
