//! Faults that are built into headstart on purpose, to see that the simulator finds them.

/// A fault in the wrapper around the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutation {
    /// One timer in eight is not called.
    TimersDropped,
    /// Deletes do not name the UID.
    UidIgnored,
    /// A resume does not name the version that was read.
    VersionIgnored,
    /// A resume does not ask whether the user pauses the Deployment.
    UserPauseIgnored,
    /// Writes are sent after the lease has ended.
    FenceSkipped,
    /// The result of one command in eight is not handed back.
    ResultsDropped,
    /// One change in eight is not handed to the controller.
    ChangesDropped,
    /// A list that follows a cut does not remove what is gone.
    RelistKeepsGone,
    /// A review is taken for a stored object.
    ReviewsTrusted,
    /// Pods are created for one node more than planned.
    WrongNode,
    /// Pods name another image.
    WrongImage,
    /// Rollouts are held although nobody leads.
    GateOpen,
    /// Neither quotas nor the rollouts that they stop are seen.
    QuotaIgnored,
    /// Nodes seem to be empty.
    CountsIgnored,
    /// No node is seen to be short of disk.
    DiskPressureIgnored,
}

impl Mutation {
    /// All mutations.
    pub const ALL: [Self; 15] = [
        Self::TimersDropped,
        Self::UidIgnored,
        Self::VersionIgnored,
        Self::UserPauseIgnored,
        Self::FenceSkipped,
        Self::ResultsDropped,
        Self::ChangesDropped,
        Self::RelistKeepsGone,
        Self::ReviewsTrusted,
        Self::WrongNode,
        Self::WrongImage,
        Self::GateOpen,
        Self::QuotaIgnored,
        Self::CountsIgnored,
        Self::DiskPressureIgnored,
    ];
}
