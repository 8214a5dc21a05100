//! Each test builds a controller, feeds it objects through the store and events with their times, and asserts on what comes
//! out. Nothing here waits.

mod absent_nodes;
mod after_ready;
mod autoscalers;
mod budgets;
mod creates;
mod disk;
mod dispatch;
mod disruption;
mod doubt;
mod fairness;
mod fake_cluster;
mod gc;
mod hold_answers;
mod hold_outcomes;
mod hold_places;
mod holds;
mod kubelet;
mod leader;
mod limit_ranges;
mod limits;
mod logs;
mod namesakes;
mod nodes;
mod pod_slots;
mod pulls;
mod quotas;
mod random;
mod sharing;
mod terms;
mod world;
