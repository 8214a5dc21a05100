use super::*;
use std::time::Duration;

const LIFETIMES: Lifetimes = Lifetimes {
    ca: Duration::from_secs(4000),
    leaf: Duration::from_secs(1000),
};

/// A whole second, as certificates and the Secret keep them.
fn start() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
}

fn stored(trust: &CaState) -> CaState {
    let secret = Secret {
        data: Some(trust.to_data()),
        ..Secret::default()
    };
    CaState::from_secret(&secret).unwrap()
}

fn step(
    trust: &CaState,
    after: u64,
    served: Option<&Ca>,
    published: bool,
) -> Option<(RotationStep, CaState)> {
    // Each step goes through the Secret: another replica may take the next.
    let now = start() + Duration::from_secs(after);
    let step = stored(trust)
        .step(now, &LIFETIMES, served, published)
        .unwrap();
    step.map(|(change, trust)| (change, stored(&trust)))
}

#[test]
fn a_rotation_goes_through_its_phases_and_always_trusts_what_is_served() {
    let first = CaState::generate(start(), &LIFETIMES).unwrap();
    let old = first.current.clone();
    assert!(step(&first, 1999, Some(&old), true).is_none());

    let (change, prepared) = step(&first, 2000, Some(&old), false).unwrap();
    assert_eq!(change, RotationStep::CreateNext);
    assert_eq!(
        prepared.current.cert(),
        old.cert(),
        "not signing with it yet"
    );
    let new = prepared.next.clone().unwrap();
    let bundle = TrustedRoots::of(prepared.bundle().as_bytes());
    assert!(bundle.contains(old.cert()) && bundle.contains(new.cert()));
    assert!(
        step(&prepared, 2100, Some(&old), false).is_none(),
        "until it was read back"
    );

    let (change, promoted) = step(&prepared, 2100, Some(&old), true).unwrap();
    assert_eq!(change, RotationStep::Promote);
    assert_eq!(promoted.current.cert(), new.cert());
    assert!(promoted.next.is_none());
    assert!(TrustedRoots::of(promoted.bundle().as_bytes()).contains(old.cert()));
    assert!(
        step(&promoted, 2100 + 1249, Some(&new), true).is_none(),
        "its last leaf may still be served"
    );

    let (change, forgot) = step(&promoted, 2100 + 1250, Some(&new), true).unwrap();
    assert_eq!(change, RotationStep::RemovePrevious);
    assert!(!TrustedRoots::of(forgot.bundle().as_bytes()).contains(old.cert()));
    assert!(
        !forgot
            .to_data()
            .keys()
            .any(|key| key.starts_with("previous"))
    );
}

#[test]
fn a_secret_put_in_place_by_hand_does_not_cut_off_what_is_served() {
    let served = Ca::generate(start(), LIFETIMES.ca).unwrap();
    let by_hand = CaState::generate(start(), &LIFETIMES).unwrap();
    let (change, remembering) = step(&by_hand, 0, Some(&served), false).unwrap();
    assert_eq!(change, RotationStep::KeepServingCa);
    assert_eq!(remembering.current.cert(), by_hand.current.cert());
    assert!(TrustedRoots::of(remembering.bundle().as_bytes()).contains(served.cert()));
    assert!(
        step(&remembering, 0, Some(&served), false).is_none(),
        "once is enough"
    );
}

#[test]
fn what_replaces_a_lost_secret_goes_on_with_what_is_served_and_gets_rid_of_it() {
    let served = Arc::new(Ca::generate(start(), LIFETIMES.ca).unwrap());
    let healed = CaState::replacement(Some(served.clone()), start(), &LIFETIMES).unwrap();
    assert_eq!(healed.current.cert(), served.cert());
    let (change, promoted) = step(&healed, 1, Some(&served), true).unwrap();
    assert_eq!(change, RotationStep::Promote);
    assert_ne!(promoted.current.cert(), served.cert());

    let late = start() + LIFETIMES.ca * 2;
    let healed = CaState::replacement(Some(served.clone()), late, &LIFETIMES).unwrap();
    assert_ne!(
        healed.current.cert(),
        served.cert(),
        "an expired one is of no use"
    );
}

#[test]
fn after_a_long_sleep_the_rotation_still_goes_through_every_phase() {
    let first = CaState::generate(start(), &LIFETIMES).unwrap();
    let (change, prepared) = step(&first, 1_000_000, Some(&first.current), false).unwrap();
    assert_eq!(change, RotationStep::CreateNext);
    let (change, promoted) = step(&prepared, 1_000_000, Some(&first.current), true).unwrap();
    assert_eq!(change, RotationStep::Promote);
    let late = start() + Duration::from_secs(1_000_000);
    assert!(promoted.current.validity().is_valid_at(late));
}

#[test]
fn garbage_is_no_trust_and_half_a_successor_is_none() {
    let trust = CaState::generate(start(), &LIFETIMES).unwrap();
    let with = |key: &str, value: &str| {
        let mut data = trust.to_data();
        data.insert(key.into(), ByteString(value.as_bytes().to_vec()));
        CaState::from_secret(&Secret {
            data: Some(data),
            ..Secret::default()
        })
    };
    assert!(with(CERT, "garbage").is_none());
    assert!(with(KEY, "garbage").is_none());
    assert!(CaState::from_secret(&Secret::default()).is_none());
    assert!(
        with(NEXT_CERT, trust.current.cert())
            .unwrap()
            .next
            .is_none()
    );
    assert!(with(PREVIOUS_CERT, "x").unwrap().previous.is_none());
}

#[test]
fn only_what_every_bundle_has_is_trusted() {
    let (a, b) = (
        CaState::generate(start(), &LIFETIMES).unwrap(),
        CaState::generate(start(), &LIFETIMES).unwrap(),
    );
    let both = format!("{}{}", a.bundle(), b.bundle());
    let common = TrustedRoots::by_all([
        TrustedRoots::of(both.as_bytes()),
        TrustedRoots::of(a.bundle().as_bytes()),
    ]);
    assert!(common.contains(a.current.cert()));
    assert!(!common.contains(b.current.cert()));
    assert_eq!(TrustedRoots::of(b"garbage"), TrustedRoots::default());
    assert!(!TrustedRoots::by_all([]).contains(a.current.cert()));
}
