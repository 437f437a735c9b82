//! What a seed is: who lives in the town, what they want, and which faults
//! there are. A plan can be made smaller without becoming another story, so
//! that a failing seed shrinks.

use std::fmt;

use crate::random::Random;

/// Kinds of faults, each of which can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A node dies between two effects.
    CrashAtEffect,
    /// A node dies at any moment.
    Crash,
    /// A disk has no room for a while.
    DiskFull,
    /// A disk fails an fsync.
    DiskFails,
    /// A node dies while the disk writes.
    TornWrite,
    /// A relay dies.
    RelayCrash,
    /// Two nodes do not hear each other for a while.
    Partition,
    /// One of two nodes does not hear the other for a while.
    HalfOpen,
    /// A packet is lost and sent again.
    Loss,
    /// A message is very late.
    Delay,
    /// An opening comes twice.
    Duplicate,
    /// The last blocks are taken back.
    Reorg,
    /// A transaction of the last blocks, or of the pool, is forgotten.
    DroppedTx,
    /// Gas is dear for a while.
    GasSpike,
    /// No blocks for a while.
    SequencerStop,
    /// The RPC endpoint does not answer in time.
    RpcTimeout,
    /// It answers from an old block.
    RpcStale,
    /// It says that there were too many questions.
    RpcLimited,
    /// It answers for another chain.
    RpcWrongChain,
    /// A node's clock jumps by up to an hour.
    ClockJump,
    /// A client leaves in the middle.
    ClientLeaves,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::CrashAtEffect,
        Self::Crash,
        Self::DiskFull,
        Self::DiskFails,
        Self::TornWrite,
        Self::RelayCrash,
        Self::Partition,
        Self::HalfOpen,
        Self::Loss,
        Self::Delay,
        Self::Duplicate,
        Self::Reorg,
        Self::DroppedTx,
        Self::GasSpike,
        Self::SequencerStop,
        Self::RpcTimeout,
        Self::RpcStale,
        Self::RpcLimited,
        Self::RpcWrongChain,
        Self::ClockJump,
        Self::ClientLeaves,
    ];
}

/// What a provider is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderKind {
    /// Does what it says.
    Honest,
    /// Honest, and slow.
    Slow,
    /// Bills more than it delivered.
    Overbills,
    /// Counts more tokens than it delivered bytes.
    Miscounts,
    /// Tells different receipts under one number.
    Equivocates,
    /// Falls silent in the middle.
    Mute,
}

impl ProviderKind {
    /// Whether its own money is under protection.
    pub fn is_honest(self) -> bool {
        matches!(self, Self::Honest | Self::Slow)
    }

    /// What it wants, in words.
    fn words(self) -> &'static str {
        match self {
            Self::Honest => "sells and does what it says",
            Self::Slow => "sells and does what it says, slowly",
            Self::Overbills => "wants to be paid for more than it delivered",
            Self::Miscounts => "counts more tokens than it delivered bytes",
            Self::Equivocates => "tells different receipts under one number",
            Self::Mute => "falls silent in the middle of answers",
        }
    }
}

/// What a consumer is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsumerKind {
    /// Does what it says.
    Honest,
    /// Pays for the beginning only.
    Stingy,
    /// Signs with a wrong key in the middle.
    Forges,
    /// Leaves without a word.
    Deserts,
}

impl ConsumerKind {
    /// Whether its own money is under protection.
    pub fn is_honest(self) -> bool {
        matches!(self, Self::Honest | Self::Deserts)
    }

    /// What it wants, in words.
    fn words(self) -> &'static str {
        match self {
            Self::Honest => "buys and pays what is due",
            Self::Stingy => "pays for the beginning of an answer only",
            Self::Forges => "signs with a wrong key in the middle of answers",
            Self::Deserts => "buys, and leaves without a word",
        }
    }
}

/// Rules that are broken on purpose, to see that the checks notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A voucher is signed before its ceiling is in the journal.
    SignBeforeJournal,
    /// An honest provider bills more than it delivered, and says the same to itself.
    BillBeyondDelivered,
    /// A provider starts again without its last voucher.
    ForgetVoucher,
    /// A consumer starts again without its last ceiling.
    ForgetCeiling,
    /// A provider never holds a chunk back.
    NeverHold,
    /// A client's broken answer is not told of.
    SilentLoss,
    /// A ceiling is raised by more than what is due.
    SignTooMuch,
    /// A deposit is credited twice.
    MintAtDeposit,
    /// A provider does not claim before a withdrawal ends.
    NeverClaim,
    /// A transaction is sent before it is in the journal.
    SendBeforeJournal,
    /// A node starts again without its last transaction.
    ForgetTransaction,
}

impl Mutant {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 11] = [
        ("sign-before-journal", Self::SignBeforeJournal),
        ("bill-beyond-delivered", Self::BillBeyondDelivered),
        ("forget-voucher", Self::ForgetVoucher),
        ("forget-ceiling", Self::ForgetCeiling),
        ("never-hold", Self::NeverHold),
        ("silent-loss", Self::SilentLoss),
        ("sign-too-much", Self::SignTooMuch),
        ("mint-at-deposit", Self::MintAtDeposit),
        ("never-claim", Self::NeverClaim),
        ("send-before-journal", Self::SendBeforeJournal),
        ("forget-transaction", Self::ForgetTransaction),
    ];
}

/// One request of a client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) at_ms: u64,
    pub(crate) consumer: usize,
    /// The provider that is asked first.
    pub(crate) first: usize,
    pub(crate) body_bytes: usize,
    /// Tokens of the answer.
    pub(crate) tokens: u32,
    /// The client leaves after so many tokens.
    pub(crate) leaves_after: Option<u32>,
}

impl Wish {
    /// In words.
    fn words(&self) -> String {
        let leaves = match self.leaves_after {
            Some(0) => ", and leaves before it begins".to_owned(),
            Some(tokens) => format!(", and leaves after {tokens} of them"),
            None => String::new(),
        };
        format!(
            "at {} ms consumer {} wants {} tokens, first of provider {}{leaves}",
            self.at_ms, self.consumer, self.tokens, self.first
        )
    }
}

/// What a seed is. As text it is for people: a line each for who takes part and
/// for what is wanted of whom, named as the story's events name them.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Who sells.
    pub providers: Vec<ProviderKind>,
    /// Who buys.
    pub consumers: Vec<ConsumerKind>,
    /// How many relays there are.
    pub relays: usize,
    pub(crate) wishes: Vec<Wish>,
    /// Faults that are left out.
    pub without: Vec<Fault>,
    /// Faults end then.
    pub calm_ms: u64,
    /// The story is told event by event.
    pub told: bool,
    /// A rule that is broken on purpose.
    pub mutant: Option<Mutant>,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed).apart(1);
        let others = [
            ProviderKind::Honest,
            ProviderKind::Slow,
            ProviderKind::Overbills,
            ProviderKind::Miscounts,
            ProviderKind::Equivocates,
            ProviderKind::Mute,
        ];
        let mut providers = vec![ProviderKind::Honest];
        for _ in 0..random.within(1..3) {
            providers.push(others[random.place(others.len())]);
        }
        let others = [
            ConsumerKind::Honest,
            ConsumerKind::Honest,
            ConsumerKind::Stingy,
            ConsumerKind::Forges,
            ConsumerKind::Deserts,
        ];
        let mut consumers = vec![ConsumerKind::Honest];
        for _ in 0..random.within(0..2) {
            consumers.push(others[random.place(others.len())]);
        }
        let calm_ms = random.within(20_000..50_000);
        let wishes = (0..random.within(6..16)).map(|_| {
            let tokens = match random.chance(1_000) {
                true => random.within(150..400),
                false => random.within(1..150),
            };
            let tokens = u32::try_from(tokens).unwrap_or(1);
            Wish {
                at_ms: random.within(100..calm_ms - 2_000),
                consumer: random.place(consumers.len()),
                first: random.place(providers.len()),
                body_bytes: random.place(900),
                tokens,
                leaves_after: random.chance(1_500).then_some(tokens / 2),
            }
        });
        let wishes = wishes.collect();
        // Each story has some kinds of faults only, so that each kind is also
        // seen alone.
        let keep = random.within(2..10) * 1_000;
        let without = Fault::ALL.into_iter().filter(|_| !random.chance(keep));
        let without = without.collect();
        let relays = random.place(3);
        Self {
            seed,
            providers,
            consumers,
            relays,
            wishes,
            without,
            calm_ms,
            told: false,
            mutant: None,
        }
    }

    /// Whether a kind of fault is there.
    pub(crate) fn has(&self, fault: Fault) -> bool {
        !self.without.contains(&fault)
    }

    /// The same without some kinds of faults and without some requests, by
    /// their numbers.
    #[must_use]
    pub fn smaller(&self, without: &[Fault], fewer: &[usize]) -> Self {
        let mut plan = self.clone();
        plan.without.extend_from_slice(without);
        let kept = plan.wishes.iter().enumerate();
        let kept = kept.filter(|(at, _)| !fewer.contains(at));
        plan.wishes = kept.map(|(_, wish)| *wish).collect();
        plan
    }

    /// How many requests there are.
    pub fn requests(&self) -> usize {
        self.wishes.len()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}", self.seed)?;
        for (at, provider) in self.providers.iter().enumerate() {
            writeln!(f, "  provider {at} {}", provider.words())?;
        }
        for (at, consumer) in self.consumers.iter().enumerate() {
            writeln!(f, "  consumer {at} {}", consumer.words())?;
        }
        let relays = match self.relays {
            0 => "no relay".to_owned(),
            1 => "1 relay, through which some of the streams go".to_owned(),
            relays => format!("{relays} relays, through which some of the streams go"),
        };
        writeln!(f, "  {relays}")?;
        let mut wishes: Vec<&Wish> = self.wishes.iter().collect();
        wishes.sort_by_key(|wish| wish.at_ms);
        writeln!(f, "what is wanted")?;
        for wish in wishes {
            writeln!(f, "  {}", wish.words())?;
        }
        let faults = Fault::ALL.into_iter().filter(|fault| self.has(*fault));
        let faults: Vec<_> = faults.map(|fault| format!("{fault:?}")).collect();
        match faults.is_empty() {
            true => writeln!(f, "nothing goes wrong by itself")?,
            false => writeln!(f, "what may go wrong until {} ms", self.calm_ms)?,
        }
        if !faults.is_empty() {
            writeln!(f, "  {}", faults.join(", "))?;
        }
        if let Some(mutant) = self.mutant {
            let names = Mutant::ALL.into_iter();
            let mut named = names.filter(|(_, known)| *known == mutant);
            let name = named.next().map_or("", |(name, _)| name);
            writeln!(f, "a rule is broken on purpose: {name}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_tells_people_who_takes_part_and_what_each_wants() {
        for seed in 0..200 {
            let mut plan = Plan::of(seed);
            plan.mutant = Some(Mutant::NeverHold);
            let told = plan.to_string();
            let lines = |begin: &str| told.lines().filter(|line| line.starts_with(begin)).count();
            assert!(told.starts_with(&format!("seed {seed}\n")), "{told}");
            assert_eq!(lines("  provider "), plan.providers.len(), "{told}");
            assert_eq!(lines("  consumer "), plan.consumers.len(), "{told}");
            assert_eq!(lines("  at "), plan.requests(), "{told}");
            assert!(told.ends_with("on purpose: never-hold\n"), "{told}");
            for word in ["{", "Some(", "Honest"] {
                assert!(!told.contains(word), "{word}: {told}");
            }
        }
        let calm = Plan::of(7).smaller(&Fault::ALL, &[]);
        assert!(calm.to_string().contains("nothing goes wrong by itself"));
    }
}
