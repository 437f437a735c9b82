//! The end of a story: whether everything settled, and whether everybody gets
//! all of their money with nothing but the chain and a key.

use chain::sender::fees::Fees;
use market::{Account, Amount, ExitStep, Holdings, Timestamp};

use crate::chain::{GWEI, Op, Tx, digest};
use crate::people::{self, DELAY_S};
use crate::plan::ProviderKind;
use crate::sender::GAS;
use crate::town::{Event, Town, Who};

/// Between two looks of somebody on the way out.
const LOOK_MS: u64 = 20_000;
/// The whole way out: the delay, and a minute for everything else.
const OUT_MS: u64 = (DELAY_S + 120) * 1_000;

/// What is paid for gas on the way out.
const FEES: Fees = Fees {
    fee_per_gas: 30 * GWEI,
    tip_per_gas: GWEI,
};

/// Somebody who has only a key. Its node, and all that it wrote, is gone.
pub(crate) struct Leaver {
    pub(crate) at: usize,
}

impl Town {
    /// A minute after the faults: nothing may be open any more.
    pub(crate) fn settled(&mut self) {
        for client in 0..self.clients.len() {
            if self.clients[client].told.is_none() {
                let request = self.clients[client].request;
                self.violate(
                    5,
                    format!("client {client} was never told how {request:?} went"),
                );
            }
        }
        for consumer in 0..self.consumers.len() {
            for provider in 0..self.providers.len() {
                if self.consumers[consumer].kind.is_honest()
                    && self.providers[provider].kind.is_honest()
                {
                    self.agree(consumer, provider);
                }
            }
        }
        for at in 0..self.consumers.len() {
            // The node is switched off for good, its disk thrown away.
            self.consumers[at].live = None;
            self.consumers[at].life += 1;
            self.leavers.push(Leaver { at });
            self.hang_up(Who::Consumer(at));
            self.after(1_000, Event::Leave(at));
        }
        self.after(OUT_MS, Event::End);
    }

    /// Both sides have the same books, and the chain has what they say.
    fn agree(&mut self, consumer: usize, provider: usize) {
        let config = people::channel(consumer, provider);
        let id = people::id_of(&config);
        let names = format!("consumer {consumer}, provider {provider}");
        let spending = self.consumers[consumer].live.as_ref();
        let spending = spending.and_then(|live| live.channels.get(&provider));
        let earning = self.providers[provider].live.as_ref();
        let earning = earning.and_then(|live| live.channels.get(&id));
        let (Some(spending), Some(earning)) = (spending, earning) else {
            return;
        };
        let (purse, till) = (spending.spending.purse(), earning.earning.till());
        if purse.needs_reconciling() || till.running() > 0 {
            let running = till.running();
            return self.violate(
                4,
                format!("{names}: {running} answers run, or receipts are missing"),
            );
        }
        if purse.charged() != till.charged() {
            let (paid, charged) = (purse.charged(), till.charged());
            return self.violate(6, format!("{names}: books say {paid} and {charged}"));
        }
        let state = self.chain.channel(id, 0).unwrap_or_default();
        let due = till.charged().min(till.ceiling()).min(state.balance);
        if state.total_claimed != due {
            let claimed = state.total_claimed;
            return self.violate(4, format!("{names}: {due} due, {claimed} claimed"));
        }
        if till.claimed() != state.total_claimed {
            self.violate(
                1,
                format!("{names}: the provider's view is not the chain's"),
            );
        }
    }

    /// The next step out, as the chain alone tells.
    pub(crate) fn leave_town(&mut self, at: usize) {
        let account = people::wallet(at).address();
        let next = self.chain.nonce(account, 0);
        for (nonce, op) in (next..).zip(self.ways_out(at)) {
            let op = match op {
                ExitStep::Initiate { config, amount } => Op::Initiate(config, amount),
                ExitStep::Finalise { config, .. } => Op::Finalize(config),
                // It has nothing else in the market.
                other => return self.violate(4, format!("consumer {at} is to {other:?}")),
            };
            let tx = Tx::sign(account, digest(&op), nonce, (GAS, FEES), op);
            // One that is known already comes about by itself.
            let _ = self.chain.submit(tx);
        }
        if !std::mem::replace(&mut self.mining, true) {
            self.after(1_000, Event::Mine);
        }
        self.after(LOOK_MS, Event::Leave(at));
    }

    /// What can be done now, by the policy that `lethe exit` follows.
    fn ways_out(&self, at: usize) -> Vec<ExitStep> {
        let channels = (0..self.providers.len()).map(|provider| {
            let id = people::channel_id(at, provider);
            let state = self.chain.channel(id, 0).unwrap_or_default();
            (people::channel(at, provider), state)
        });
        let holdings = Holdings {
            account: people::wallet(at).address(),
            pays: channels.collect(),
            ..Holdings::default()
        };
        let (steps, _waits) = holdings.plan(Timestamp(self.true_s()));
        steps
    }

    /// The last check: nobody's money is anywhere but with its owner.
    pub(crate) fn ends(&mut self) {
        self.over = true;
        let held = self.chain.ledger().accounts(people::MOR);
        for (account, amount) in held {
            match account {
                Account::Wallet(_) => {}
                Account::Earned(receiver) if self.is_dishonest(receiver) => {}
                account => self.violate(4, format!("{amount} base units stay in {account:?}")),
            }
        }
        let mut paid = Amount::ZERO;
        for provider in 0..self.providers.len() {
            let earned = self.earnings(provider).total_settled;
            paid = paid.plus(earned).unwrap_or(paid);
            self.provider_had_its_due(provider);
        }
        let mut back = Amount::ZERO;
        for at in 0..self.consumers.len() {
            let account = people::wallet(at).address();
            let has = self.chain.balance(account, people::MOR).unwrap_or_default();
            back = back.plus(has).unwrap_or(back);
        }
        self.trace.number(paid.base_units());
        self.trace.number(back.base_units());
        self.tally.moved(paid, back);
    }

    fn is_dishonest(&self, receiver: market::Address) -> bool {
        let all = self.providers.iter().enumerate();
        let mut all = all.filter(|(at, _)| people::seller(*at).address() == receiver);
        all.any(|(_, provider)| !provider.kind.is_honest())
    }

    /// An honest provider was paid for all that vouchers cover.
    fn provider_had_its_due(&mut self, provider: usize) {
        if !matches!(
            self.providers[provider].kind,
            ProviderKind::Honest | ProviderKind::Slow
        ) {
            return;
        }
        for consumer in 0..self.consumers.len() {
            let id = people::channel_id(consumer, provider);
            let claimed = self.chain.channel(id, 0).unwrap_or_default().total_claimed;
            let money = self.oracle.money(id);
            let charged = Amount::sum(money.receipts.values().map(|receipt| receipt.amount));
            let due = charged.unwrap_or_default().min(money.received);
            if claimed < due {
                self.violate(
                    3,
                    format!("provider {provider}: {due} were due, {claimed} claimed"),
                );
            }
        }
    }

    /// A consumer knows after its start what is on its disk, and has not
    /// forgotten what it signed.
    pub(crate) fn consumer_same_as_before(&mut self, at: usize) {
        let Some(live) = self.consumers[at].live.as_ref() else {
            return;
        };
        let known: Vec<_> = live
            .channels
            .values()
            .map(|channel| {
                let purse = channel.spending.purse();
                (channel.id, channel.spending.durable(), purse.charged())
            })
            .collect();
        for (id, durable, charged) in known {
            let money = self.oracle.money(id);
            if durable != money.journalled || charged != money.charged || money.signed > durable {
                let (journalled, booked) = (money.journalled, money.charged);
                let problem = format!(
                    "consumer {at} starts with ceiling {durable} and {charged} charged, \
                     its disk had {journalled} and {booked}"
                );
                return self.violate(6, problem);
            }
        }
    }

    /// The same for a provider.
    pub(crate) fn provider_same_as_before(&mut self, at: usize) {
        let Some(live) = self.providers[at].live.as_ref() else {
            return;
        };
        let known: Vec<_> = live
            .channels
            .iter()
            .map(|(id, channel)| {
                let till = channel.earning.till();
                let closed = till.sequence();
                (*id, till.ceiling(), closed)
            })
            .collect();
        for (id, ceiling, sequence) in known {
            let money = self.oracle.money(id);
            let last = money
                .receipts
                .keys()
                .next_back()
                .copied()
                .unwrap_or_default();
            if ceiling != money.received || sequence < last {
                let received = money.received;
                let problem = format!(
                    "provider {at} starts with voucher {ceiling} and receipt {sequence}, \
                     its disk had {received} and {last}"
                );
                return self.violate(6, problem);
            }
        }
    }
}
