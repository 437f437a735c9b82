//! A story in words: what moves money, and what happens to those who take part. All else that
//! happens is kept as the program has it.

use chain::sender::machine::Notice;
use market::{ChannelConfig, Receipt, SignedVoucher};

use crate::chain::{GWEI, Op, Outcome};
use crate::misfortune::Misfortune;
use crate::people;
use crate::town::{Event, Town, Who};

/// What a line of a story is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// Money is signed for, or moves on the chain.
    Money,
    /// Somebody asks, is answered, dies or comes back; a fault begins or ends.
    People,
    /// Every single event, as the program has it.
    Inner,
}

/// A line of a story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When, in the story.
    pub at_ms: u64,
    /// What it is about.
    pub about: About,
    /// What happened.
    pub text: String,
}

impl Line {
    /// What the marks before lines mean.
    pub const LEGEND: &str = "$ money is signed for, or moves on the chain; . somebody asks, is told how it went, dies or comes back; \
                              | as the program has it. Amounts are in base units";

    /// Its mark.
    pub fn mark(&self) -> char {
        match self.about {
            About::Money => '$',
            About::People => '.',
            About::Inner => '|',
        }
    }
}

impl Town {
    /// Keeps a line, if the story is told.
    pub(crate) fn note(&mut self, about: About, text: impl FnOnce() -> String) {
        if self.plan.told {
            self.lines.push(Line {
                at_ms: self.now_ms,
                about,
                text: text(),
            });
        }
    }

    /// Keeps what is about to happen.
    pub(crate) fn note_event(&mut self, event: &Event) {
        self.note(About::Inner, || format!("{event:?}"));
        if self.plan.told
            && let Some(words) = self.words(event)
        {
            self.note(About::People, || words);
        }
    }

    fn words(&self, event: &Event) -> Option<String> {
        Some(match event {
            Event::Wish(client) => {
                let wish = &self.clients[*client].wish;
                format!(
                    "request {client}: consumer {} wants {} tokens, first of provider {}",
                    wish.consumer, wish.tokens, wish.first
                )
            }
            Event::Misfortune(misfortune) => self.befalls(misfortune)?,
            Event::Calm => {
                "the faults end: who is down starts, what is cut heals; everything has a minute to settle".to_owned()
            }
            Event::Settled => "everything has to be settled now".to_owned(),
            Event::End => "everybody has to have their money back now".to_owned(),
            Event::Heard { .. }
            | Event::Broke { .. }
            | Event::Synced { .. }
            | Event::Replied { .. }
            | Event::Timer { .. }
            | Event::Mine
            | Event::Leave(_) => return None,
        })
    }

    /// What befalls the town; nothing where it changes nothing.
    fn befalls(&self, misfortune: &Misfortune) -> Option<String> {
        Some(match misfortune {
            // Told when it comes about, as where an effect is the last one.
            Misfortune::Crash(_) => return None,
            Misfortune::Start(who) if self.lives(*who, None) => return None,
            Misfortune::Start(who) => format!("{} starts again", name(*who)),
            Misfortune::RelayGone(relay) => format!("relay {relay} dies"),
            Misfortune::RelayBack(relay) => format!("relay {relay} is back"),
            Misfortune::Cut(cut) => {
                let ways = [
                    (cut.to_consumer, "to the consumer"),
                    (cut.to_provider, "to the provider"),
                ];
                let ways: Vec<_> = ways.iter().filter(|way| way.0).map(|way| way.1).collect();
                format!(
                    "between consumer {} and provider {} nothing arrives until {} ms ({})",
                    cut.consumer,
                    cut.provider,
                    cut.until_ms,
                    ways.join(", ")
                )
            }
            Misfortune::DiskFull(who, true) => format!("the disk of {} is full", name(*who)),
            Misfortune::DiskFull(who, false) => {
                format!("the disk of {} has room again", name(*who))
            }
            Misfortune::DiskFails(who) => format!("the disk of {} fails", name(*who)),
            Misfortune::Reorg(depth) => {
                format!("the chain takes up to {depth} of its last blocks back")
            }
            Misfortune::DropTx => "the chain's servers forget a transaction that waits".to_owned(),
            Misfortune::Gas(gwei) => format!("gas costs {gwei} Gwei"),
            Misfortune::Sequencer(true) => "no blocks are made".to_owned(),
            Misfortune::Sequencer(false) => "blocks are made again".to_owned(),
            Misfortune::Clock(who, by) => format!("the clock of {} is {by} s off", name(*who)),
        })
    }

    /// Keeps that a node dies.
    pub(crate) fn note_death(&mut self, who: Who) {
        self.note(About::People, || format!("{} dies", name(who)));
    }

    /// Keeps what a new block has.
    pub(crate) fn note_block(&mut self) {
        if !self.plan.told {
            return;
        }
        let (number, txs) = self.chain.latest();
        let lines: Vec<_> = txs
            .iter()
            .flat_map(|(tx, outcome)| on_chain(&tx.op, number, outcome))
            .collect();
        for line in lines {
            self.note(About::Money, || line);
        }
    }

    /// Keeps a voucher that a consumer signs.
    pub(crate) fn note_voucher(&mut self, consumer: usize, signed: &SignedVoucher) {
        let voucher = signed.voucher;
        self.note(About::Money, || {
            let to = match people::parties(voucher.channel) {
                Some((_, provider)) => format!("provider {provider}"),
                None => "nobody here".to_owned(),
            };
            format!(
                "consumer {consumer} signs for up to {} to {to}, of all answers together",
                voucher.ceiling
            )
        });
    }

    /// Keeps a receipt that a provider signs.
    pub(crate) fn note_receipt(&mut self, provider: usize, receipt: &Receipt) {
        self.note(About::Money, || {
            let from = match people::parties(receipt.channel) {
                Some((consumer, _)) => format!("consumer {consumer}"),
                None => "nobody here".to_owned(),
            };
            format!(
                "provider {provider} signs receipt {} to {from}: {} for {} tokens in and {} out, {} in all ({})",
                receipt.sequence,
                receipt.amount,
                receipt.input_tokens,
                receipt.output_tokens,
                receipt.charged_total,
                format!("{:?}", receipt.outcome).to_lowercase()
            )
        });
    }

    /// Keeps what the sender of transactions says.
    pub(crate) fn note_notice(&mut self, notice: &Notice) {
        let words = match notice {
            Notice::Raised { nonce, fees } => format!(
                "transaction {nonce} is signed again, for {} Gwei a unit of gas",
                fees.fee_per_gas / GWEI
            ),
            Notice::Undone { nonce, block } => {
                format!(
                    "block {block}, which had transaction {nonce}, is no more: it is sent again"
                )
            }
            Notice::Turned { nonce } => {
                format!("transaction {nonce} is in a block again, and fails there")
            }
            other => return self.note(About::Inner, || format!("{other:?}")),
        };
        self.note(About::Money, || words);
    }
}

fn name(who: Who) -> String {
    match who {
        Who::Consumer(at) => format!("consumer {at}"),
        Who::Provider(at) => format!("provider {at}"),
    }
}

/// What a transaction in a block does.
fn on_chain(op: &Op, block: u64, outcome: &Outcome) -> Vec<String> {
    let between = |config: &ChannelConfig| people::parties(people::id_of(config));
    let channel = |config: &ChannelConfig| match between(config) {
        Some((consumer, provider)) => (
            format!("consumer {consumer}"),
            format!("provider {provider}"),
        ),
        None => ("somebody".to_owned(), "somebody".to_owned()),
    };
    let did = match op {
        Op::Deposit(config, amount) => {
            let (consumer, provider) = channel(config);
            vec![format!(
                "{consumer} puts {amount} into its channel to {provider}"
            )]
        }
        Op::Claim(claims) => {
            let claim = |(config, _, total): &(ChannelConfig, SignedVoucher, market::Amount)| {
                let (consumer, provider) = channel(config);
                format!("{provider} claims of {consumer}, {total} in all")
            };
            claims.iter().map(claim).collect()
        }
        Op::Settle(receiver, _) => {
            let mut sellers = 0..people::PEOPLE_MAX;
            let of = sellers.find(|at| people::seller(*at).address() == *receiver);
            let whose = of.map_or("somebody".to_owned(), |at| format!("provider {at}"));
            vec![format!("{whose} is paid out what it claimed")]
        }
        Op::Initiate(config, amount) => {
            let (consumer, provider) = channel(config);
            vec![format!(
                "{consumer} asks for {amount} of its channel to {provider} back"
            )]
        }
        Op::Finalize(config) => {
            let (consumer, provider) = channel(config);
            vec![format!(
                "{consumer} has back what it asked for of its channel to {provider}"
            )]
        }
        Op::Nothing => vec!["a nonce is used up".to_owned()],
    };
    let refused = match outcome {
        Ok(()) => String::new(),
        Err(reason) => format!(": refused, {reason}"),
    };
    let line = |did: String| format!("block {block}: {did}{refused}");
    did.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use crate::town::play;

    #[test]
    fn money_and_people_are_told_in_words() {
        let mut seen = Vec::new();
        for seed in 0..60 {
            let mut plan = Plan::of(seed);
            plan.told = true;
            let story = play(&plan);
            if seed < 5 {
                let quiet = play(&Plan::of(seed));
                assert_eq!(quiet.trace, story.trace, "telling changes nothing");
                assert_eq!(quiet.lines, []);
            }
            let told = story.lines.into_iter();
            seen.extend(told.filter(|line| line.about != About::Inner));
        }
        for line in &seen {
            for word in ["{", "Some(", "0x", "Amount"] {
                assert!(!line.text.contains(word), "{word}: {}", line.text);
            }
        }
        for words in [
            "signs for up to",
            "signs receipt",
            "into its channel to",
            "claims of consumer",
            "is paid out",
            "has back what it asked for",
            "wants",
            ": answered",
            "dies",
            "starts again",
        ] {
            let has = |line: &Line| line.text.contains(words);
            assert!(seen.iter().any(has), "{words}");
        }
    }
}
