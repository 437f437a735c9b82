//! What befalls the town from outside: deaths and starts, cuts, disks, the
//! chain's moods, clocks. All of it ends when the calm begins.

use crate::chain::{BASE_FEE, GWEI};
use crate::plan::{Fault, Mutant};
use crate::town::{Event, Town, Who};
use crate::wire::Cut;

/// One stroke.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Misfortune {
    Crash(Who),
    Start(Who),
    RelayGone(usize),
    RelayBack(usize),
    Cut(Cut),
    DiskFull(Who, bool),
    DiskFails(Who),
    Reorg(u64),
    DropTx,
    Gas(u64),
    Sequencer(bool),
    Clock(Who, i64),
}

impl Town {
    fn anybody(&mut self) -> Who {
        let consumers = self.consumers.len();
        let at = self.dice.place(consumers + self.providers.len());
        match at < consumers {
            true => Who::Consumer(at),
            false => Who::Provider(at - consumers),
        }
    }

    /// Draws what will befall the town. Everything is drawn, and what is left
    /// out then left out, so that the rest stays as it is.
    pub(crate) fn misfortunes(&mut self) {
        let calm_ms = self.plan.calm_ms;
        for fault in Fault::ALL {
            let times = match fault {
                Fault::Crash => self.dice.within(0..4),
                Fault::RelayCrash if self.plan.relays == 0 => 0,
                Fault::Partition | Fault::HalfOpen | Fault::Reorg | Fault::DroppedTx => {
                    self.dice.within(0..4)
                }
                Fault::DiskFull | Fault::DiskFails | Fault::RelayCrash => self.dice.within(0..3),
                Fault::GasSpike | Fault::SequencerStop | Fault::ClockJump => self.dice.within(0..2),
                _ => 0,
            };
            for _ in 0..times {
                let at_ms = self.dice.within(500..calm_ms);
                let strokes = self.stroke(fault, at_ms);
                if !self.plan.has(fault) {
                    continue;
                }
                self.tally.fault(fault);
                for (at_ms, misfortune) in strokes {
                    if at_ms < calm_ms {
                        self.at(at_ms, Event::Misfortune(misfortune));
                    }
                }
            }
        }
        self.mining = true;
        self.at(1_000, Event::Mine);
    }

    /// One fault from its beginning to its end.
    fn stroke(&mut self, fault: Fault, at_ms: u64) -> Vec<(u64, Misfortune)> {
        let lasts = self.dice.within(500..9_000);
        let who = self.anybody();
        match fault {
            Fault::Crash => vec![(at_ms, Misfortune::Crash(who))],
            Fault::RelayCrash => {
                let relay = self.dice.place(self.plan.relays);
                vec![
                    (at_ms, Misfortune::RelayGone(relay)),
                    (at_ms + lasts, Misfortune::RelayBack(relay)),
                ]
            }
            Fault::Partition | Fault::HalfOpen => {
                let way = self.dice.chance(5_000);
                let both = fault == Fault::Partition;
                let cut = Cut {
                    consumer: self.dice.place(self.consumers.len()),
                    provider: self.dice.place(self.providers.len()),
                    to_consumer: both || way,
                    to_provider: both || !way,
                    until_ms: at_ms + lasts,
                };
                vec![(at_ms, Misfortune::Cut(cut))]
            }
            Fault::DiskFull => vec![
                (at_ms, Misfortune::DiskFull(who, true)),
                (at_ms + lasts / 2, Misfortune::DiskFull(who, false)),
            ],
            Fault::DiskFails => vec![(at_ms, Misfortune::DiskFails(who))],
            Fault::Reorg => {
                let depth = match self.dice.chance(1_500) {
                    true => self.dice.within(9..65),
                    false => self.dice.within(1..9),
                };
                vec![(at_ms, Misfortune::Reorg(depth))]
            }
            Fault::DroppedTx => vec![(at_ms, Misfortune::DropTx)],
            Fault::GasSpike => {
                let dear = self.dice.within(20..400);
                vec![
                    (at_ms, Misfortune::Gas(dear)),
                    (at_ms + 2 * lasts, Misfortune::Gas(10)),
                ]
            }
            Fault::SequencerStop => vec![
                (at_ms, Misfortune::Sequencer(true)),
                (at_ms + 3 * lasts, Misfortune::Sequencer(false)),
            ],
            Fault::ClockJump => {
                let by = i64::try_from(self.dice.within(0..7_200)).unwrap_or(0) - 3_600;
                vec![(at_ms, Misfortune::Clock(who, by))]
            }
            _ => vec![],
        }
    }

    /// It comes about.
    pub(crate) fn strikes(&mut self, misfortune: Misfortune) {
        match misfortune {
            Misfortune::Crash(who) => self.crash(who),
            Misfortune::Start(who) => self.start(who),
            Misfortune::RelayGone(relay) => self.relay_gone(relay),
            Misfortune::RelayBack(relay) => self.relay_up[relay] = true,
            Misfortune::Cut(cut) => self.cuts.push(cut),
            Misfortune::DiskFull(who, full) => self.disk(who).full = full,
            Misfortune::DiskFails(who) => self.disk(who).failing = true,
            Misfortune::Reorg(depth) => {
                let mut dice = self.dice.clone();
                let drops = self.plan.has(Fault::DroppedTx);
                let (gone, dropped) = self.chain.reorg(depth, drops, &mut dice);
                self.dice = dice;
                self.tally.reorgs += u64::from(gone > 0);
                self.tally.blocks_undone += gone;
                self.trace.number(u128::from(dropped));
                self.chain_moved();
            }
            Misfortune::DropTx => {
                let mut dice = self.dice.clone();
                self.chain.drop_one(&mut dice);
                self.dice = dice;
            }
            Misfortune::Gas(gwei) => self.chain.base_fee = u128::from(gwei) * GWEI,
            Misfortune::Sequencer(stopped) => self.chain.stopped = stopped,
            Misfortune::Clock(Who::Consumer(at), by) => self.consumers[at].clock_s = by,
            Misfortune::Clock(Who::Provider(at), by) => self.providers[at].clock_s = by,
        }
    }

    /// A node dies: what it had not made durable is gone.
    pub(crate) fn crash(&mut self, who: Who) {
        if !self.lives(who, None) {
            return;
        }
        self.tally.crashes += 1;
        self.note_death(who);
        match who {
            Who::Consumer(at) => {
                self.consumers[at].live = None;
                self.consumers[at].life += 1;
            }
            Who::Provider(at) => {
                self.providers[at].live = None;
                self.providers[at].life += 1;
            }
        }
        let mut dice = self.dice.clone();
        let arrived = self.disk(who).crash(&mut dice);
        self.dice = dice;
        for (book, lines) in arrived {
            self.oracle.synced(who, book, &lines);
        }
        self.oracle.node_gone(who);
        if let Who::Consumer(at) = who {
            self.consumer_gone(at);
        }
        self.hang_up(who);
        let wait = self.dice.within(200..8_000);
        self.after(wait, Event::Misfortune(Misfortune::Start(who)));
    }

    /// A node starts.
    pub(crate) fn start(&mut self, who: Who) {
        if self.lives(who, None)
            || self
                .leavers
                .iter()
                .any(|leaver| Who::Consumer(leaver.at) == who)
        {
            return;
        }
        match who {
            Who::Consumer(at) => self.consumer_starts(at),
            Who::Provider(at) => {
                // What is sealed for one life no other can open.
                self.providers[at].life += 1;
                self.provider_starts(at);
            }
        }
    }

    /// The faults end: whoever is down starts, what is cut heals.
    pub(crate) fn calms_down(&mut self) {
        self.calm = true;
        self.cuts.clear();
        self.chain.base_fee = BASE_FEE;
        self.chain.stopped = false;
        for up in &mut self.relay_up {
            *up = true;
        }
        let consumers = (0..self.consumers.len()).map(Who::Consumer);
        let everybody: Vec<_> = consumers
            .chain((0..self.providers.len()).map(Who::Provider))
            .collect();
        for who in everybody {
            let disk = self.disk(who);
            disk.full = false;
            disk.failing = false;
            self.start(who);
            if let Who::Consumer(at) = who {
                self.consumer_calm(at);
            }
        }
        if self.plan.mutant == Some(Mutant::MintAtDeposit) {
            let ledger = self.chain.ledger();
            // Money from nowhere.
            let _ = ledger.mint(
                crate::people::MOR,
                self.account(Who::Consumer(0)),
                market::Amount::new(1),
            );
            self.chain_moved();
        }
    }
}
