//! Places for resumes: how many at once, in which order, and at what cost.

use super::holds::{held, hold};
use super::kubelet::*;
use super::world::*;
use crate::controller::command::{Command, CommandId, CommandResult, ResumeOutcome};
use crate::workload::DeploymentKey;
use serde_json::json;

/// Holds a rollout that nothing is left to wait for: there is no node.
fn deploy(world: &mut World, namespace: &str, name: &str) {
    let of = json!({"metadata": {"namespace": namespace, "uid": format!("{namespace}-{name}")}});
    let object = merged(hold(world, name, &["a:1"]), &of);
    world.deploy(object);
}

/// Shows a Deployment whose hold is over.
fn deploy_resumed(world: &mut World, key: &DeploymentKey) {
    let DeploymentKey { namespace, name } = key;
    let of = json!({"metadata": {"namespace": namespace, "uid": format!("{namespace}-{name}")}});
    world.deploy(merged(web(name, &["a:1"]), &of));
}

fn take(world: &mut World) -> Vec<(CommandId, DeploymentKey)> {
    let is_resume = |command: &mut Command| matches!(command, Command::ResumeRollout { .. });
    let resumes = world.commands.extract_if(.., is_resume);
    resumes
        .map(|command| match command {
            Command::ResumeRollout { id, key, .. } => (id, key),
            _ => unreachable!(),
        })
        .collect()
}

fn namespaces(resumes: &[(CommandId, DeploymentKey)]) -> Vec<&str> {
    resumes.iter().map(|(_, key)| &*key.namespace).collect()
}

fn finish(world: &mut World, id: CommandId) {
    let resumed = CommandResult::Resumed(Ok(ResumeOutcome::Resumed));
    world.finish(id, resumed);
}

#[test]
fn at_most_four_rollouts_of_a_namespace_and_sixteen_in_all_are_resumed_at_once() {
    let mut world = World::new();
    for namespace in ["a", "b", "c", "d", "e"] {
        world.namespace(namespace, "hold");
        for index in 0..5 {
            deploy(&mut world, namespace, &format!("web-{index}"));
        }
    }
    let resumes = take(&mut world);
    let in_flight = namespaces(&resumes);
    assert_eq!(in_flight.len(), 16);
    for namespace in ["a", "b", "c", "d"] {
        let count = in_flight.iter().filter(|n| **n == namespace).count();
        assert_eq!(count, 4, "{namespace}");
    }
    // `a` has a free place, and the holds of `e` wait longer.
    finish(&mut world, resumes[0].0);
    assert_eq!(namespaces(&take(&mut world)), ["e"]);
}

#[test]
fn a_namespace_whose_resumes_are_never_answered_leaves_the_places_of_others() {
    let mut world = World::new();
    for namespace in ["slow", "a", "b"] {
        world.namespace(namespace, "hold");
    }
    for index in 0..50 {
        deploy(&mut world, "slow", &format!("web-{index:02}"));
    }
    assert_eq!(namespaces(&take(&mut world)), ["slow"; 4]);
    for index in 0..10 {
        for namespace in ["a", "b"] {
            deploy(&mut world, namespace, &format!("web-{index}"));
        }
    }
    let mut order = Vec::new();
    loop {
        let resumes = take(&mut world);
        let Some((first, rest)) = resumes.split_first() else {
            break;
        };
        order.push(first.1.namespace.clone());
        finish(&mut world, first.0);
        for (id, key) in rest {
            order.push(key.namespace.clone());
            finish(&mut world, *id);
        }
    }
    assert_eq!(order.len(), 20, "{order:?}");
}

#[test]
fn waiting_holds_are_resumed_round_robin_over_namespaces() {
    let mut world = World::new();
    for namespace in ["a", "b", "c", "d", "many", "one"] {
        world.namespace(namespace, "hold");
    }
    for namespace in ["a", "b", "c", "d"] {
        (0..4).for_each(|n| deploy(&mut world, namespace, &format!("web-{n}")));
    }
    let full = take(&mut world);
    assert_eq!(full.len(), 16);
    (0..20).for_each(|n| deploy(&mut world, "many", &format!("web-{n:02}")));
    deploy(&mut world, "one", "web");
    for (id, _) in &full[..2] {
        finish(&mut world, *id);
    }
    assert_eq!(namespaces(&take(&mut world)), ["many", "one"]);
}

#[test]
fn a_place_that_a_waiting_hold_does_not_need_any_more_goes_to_the_next() {
    let mut world = World::new();
    world.namespace("a", "hold");
    for index in 0..6 {
        deploy(&mut world, "a", &format!("web-{index}"));
    }
    let resumes = take(&mut world);
    deploy_resumed(
        &mut world,
        &DeploymentKey {
            namespace: "a".into(),
            name: "web-4".into(),
        },
    );
    finish(&mut world, resumes[0].0);
    assert_eq!(take(&mut world)[0].1.name, "web-5");
}

#[test]
fn a_waiting_hold_that_waits_for_its_images_again_gives_its_place_to_the_next() {
    let mut world = World::new();
    for index in 0..6 {
        deploy(&mut world, "shop", &format!("web-{index}"));
    }
    let resumes = take(&mut world);
    // A node is there now, and the holds that are not resumed yet wait for it.
    world.node("n001");
    for index in 4..6 {
        let object = merged(
            hold(&world, &format!("web-{index}"), &["a:2"]),
            &json!({"metadata": {"uid": format!("shop-web-{index}")}}),
        );
        world.deploy(object);
    }
    finish(&mut world, resumes[0].0);
    assert!(take(&mut world).is_empty());
    world.run_to_end();
    assert_eq!(take(&mut world).len(), 1, "the fourth place");
}

#[test]
fn an_event_checks_few_of_five_thousand_holds() {
    const HOLDS: usize = 5000;
    const NAMESPACES: usize = 10;
    /// The hold that the event is about, twice, and one that waited.
    const PER_EVENT: usize = 3;
    let mut world = World::new();
    world.is_checked = false;
    for namespace in 0..NAMESPACES {
        world.namespace(&format!("ns-{namespace}"), "hold");
    }
    let checks = |world: &World| world.controller.parts.holds.checks;
    let mut before = 0;
    let mut bound = |world: &World, what: &str| {
        let now = checks(world);
        assert!(now - before <= PER_EVENT, "{what}: {} checks", now - before);
        before = now;
    };
    for index in 0..HOLDS {
        let namespace = format!("ns-{}", index % NAMESPACES);
        deploy(&mut world, &namespace, &format!("web-{index}"));
        bound(&world, "a Deployment");
    }
    world.controller.check().unwrap();
    let mut resumed = 0;
    loop {
        let resumes = take(&mut world);
        if resumes.is_empty() {
            break;
        }
        for (id, key) in resumes {
            finish(&mut world, id);
            bound(&world, "an answer");
            deploy_resumed(&mut world, &key);
            bound(&world, "the end of a hold");
            resumed += 1;
        }
    }
    world.controller.check().unwrap();
    assert_eq!(resumed, HOLDS);
    // Holds that wait for a place have no timer.
    world.advance(secs(10));
    bound(&world, "a timeout");
}

#[test]
fn an_answer_to_the_resume_of_an_earlier_hold_does_not_move_the_next_one() {
    let mut world = held(0);
    let first = take(&mut world)[0].0;
    // Another client resumes it, and an update is held anew, before the answer comes.
    world.advance(secs(2));
    let other = hold(&world, "web", &["a:2"]);
    world.deploy(other);
    let second = take(&mut world);
    assert_eq!(second.len(), 1);
    world.finish(first, CommandResult::Resumed(Err(unavailable())));
    assert!(take(&mut world).is_empty());
    finish(&mut world, second[0].0);
    world.advance(secs(59));
    assert!(take(&mut world).is_empty(), "it waits for the watch");
}

#[test]
fn a_resume_names_the_hold_that_it_ends() {
    let mut world = held(0);
    let Some(Command::ResumeRollout { hold, .. }) = world.commands.pop() else {
        panic!("a resume");
    };
    assert_eq!(hold.uid, "uid-web");
    assert_eq!(hold.since, Some(world.now.wall));
}
