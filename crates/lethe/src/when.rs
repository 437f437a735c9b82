//! When a provider sells, if not always: in hours of the day, or while others
//! leave the machine's processor alone. Outside of that it rests: its offers
//! are not in its descriptor, what runs comes to its end, and who asks nevertheless
//! is told to ask again later, which counts against nobody.
//!
//! The rules are pure; [`keep`] looks at clock and machine.

use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use market::Timestamp;
use provider::Provider;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::clock;

/// Between two looks at clock and machine.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Ranges of hours that one may name.
const RANGES_MAX: usize = 8;

/// Others take less than this share of all cores: the machine is idle.
const QUIET_BELOW: f64 = 0.15;

/// And has to be so for so long before anything is on offer.
const QUIET_FOR: Duration = Duration::from_secs(60);

/// Others take more than this share: the machine is theirs.
const BUSY_ABOVE: f64 = 0.4;

/// And for so long before the offers go.
const BUSY_FOR: Duration = Duration::from_secs(10);

const MINUTES_A_DAY: u16 = 24 * 60;

/// When there is something on offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum When {
    /// In these hours of the day, by the machine's clock and zone.
    Hours(Vec<Range>),
    /// While others leave the processor alone.
    Idle,
}

/// Minutes of a day: from the first one on, up to the last one, which is not in
/// it any more; over midnight, if that is before the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    from: u16,
    to: u16,
}

/// A text that names no such time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{part:?} is no range of hours (allowed: idle, or up to {RANGES_MAX} ranges such as 22:00-07:00, with commas between)"
)]
pub(crate) struct ParseWhenError {
    part: String,
}

/// Why it cannot be told whether the machine is idle.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WhenError {
    #[error(
        "--when idle needs {path}, which cannot be read; hours such as --when 22:00-07:00 work without it"
    )]
    Read {
        path: &'static str,
        #[source]
        source: io::Error,
    },
    #[error(
        "--when idle does not understand what this system says in {STAT}; hours such as --when 22:00-07:00 work without it"
    )]
    Form,
}

impl FromStr for When {
    type Err = ParseWhenError;

    fn from_str(text: &str) -> Result<Self, ParseWhenError> {
        if text == "idle" {
            return Ok(Self::Idle);
        }
        let error = |part: &str| ParseWhenError {
            part: part.to_owned(),
        };
        let ranges = text.split(',').map(|part| {
            let part = part.trim();
            Range::parse(part).ok_or_else(|| error(part))
        });
        let ranges = ranges.collect::<Result<Vec<_>, _>>()?;
        match ranges.len() {
            ..=RANGES_MAX => Ok(Self::Hours(ranges)),
            _ => Err(error(text)),
        }
    }
}

impl Range {
    /// From `22:00-07:00`.
    fn parse(text: &str) -> Option<Self> {
        let minute = |text: &str| {
            let (hours, minutes) = text.split_once(':')?;
            let number = |text: &str, below: u16| {
                let is_plain =
                    (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
                let number = text.parse::<u16>().ok().filter(|_| is_plain)?;
                (number < below).then_some(number)
            };
            let minutes = number(minutes, 60).filter(|_| minutes.len() == 2)?;
            let at = number(hours, 25)? * 60 + minutes;
            (at <= MINUTES_A_DAY).then_some(at)
        };
        let (from, to) = text.split_once('-')?;
        let (from, to) = (minute(from)?, minute(to)?);
        (from < MINUTES_A_DAY && from != to).then_some(Self { from, to })
    }

    fn has(self, minute: u16) -> bool {
        match self.from < self.to {
            true => (self.from..self.to).contains(&minute),
            false => minute >= self.from || minute < self.to,
        }
    }
}

impl When {
    /// How long a provider rests that does so now, in words.
    pub(crate) fn rest(&self) -> String {
        match self {
            Self::Idle => format!(
                "until the machine was idle for {} s (--when)",
                QUIET_FOR.as_secs()
            ),
            Self::Hours(ranges) => {
                let minute = minute_of_day(clock::now(), &TimeZone::system());
                match opens(ranges, minute) {
                    Some(at) => format!("until {:02}:{:02} (--when)", at / 60, at % 60),
                    None => "by --when".to_owned(),
                }
            }
        }
    }
}

/// The minute of the day at which the next of these ranges begins or goes on.
fn opens(ranges: &[Range], minute: u16) -> Option<u16> {
    let minutes = (1..=MINUTES_A_DAY).map(|later| (minute + later) % MINUTES_A_DAY);
    let mut open = minutes.filter(|at| ranges.iter().any(|range| range.has(*at)));
    open.next()
}

/// The minute of the day there.
fn minute_of_day(now: Timestamp, zone: &TimeZone) -> u16 {
    let seconds = i64::try_from(now.0).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    let time = time.to_zoned(zone.clone()).time();
    let [hour, minute] = [time.hour(), time.minute()].map(|part| u16::try_from(part).unwrap_or(0));
    hour * 60 + minute
}

/// Whether the machine is idle: a change has to last before it counts.
#[derive(Debug, Default)]
struct Idle {
    is_idle: bool,
    /// Since when it looks as if that were over.
    since: Option<Instant>,
}

impl Idle {
    /// What is so from now on. `share`: what others take of all cores; none: that
    /// cannot be told now.
    fn look(&mut self, share: Option<f64>, now: Instant) -> bool {
        let (is_other, lasts) = match self.is_idle {
            true => (share.is_some_and(|share| share > BUSY_ABOVE), BUSY_FOR),
            false => (share.is_some_and(|share| share < QUIET_BELOW), QUIET_FOR),
        };
        if !is_other {
            self.since = None;
            return self.is_idle;
        }
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= lasts {
            self.is_idle = !self.is_idle;
            self.since = None;
        }
        self.is_idle
    }
}

/// What the processor did, in ticks of all cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    all: u64,
    busy: u64,
    /// Of these, by this process.
    own: u64,
}

const STAT: &str = "/proc/stat";
const OWN_STAT: &str = "/proc/self/stat";

impl Ticks {
    fn read() -> Result<Self, WhenError> {
        let text =
            |path| std::fs::read_to_string(path).map_err(|source| WhenError::Read { path, source });
        Self::parse(&text(STAT)?, &text(OWN_STAT)?).ok_or(WhenError::Form)
    }

    /// From the texts that the system has of all processes and of this one.
    fn parse(stat: &str, own: &str) -> Option<Self> {
        /// user, nice, system, idle, iowait, irq, softirq, steal: guests are in the first two.
        const KINDS: usize = 8;
        const WAITING: [usize; 2] = [3, 4];
        let all = stat.lines().next()?.strip_prefix("cpu ")?;
        let all = all.split_whitespace().take(KINDS).map(str::parse);
        let all: Vec<u64> = all.collect::<Result<_, _>>().ok()?;
        let sum: u64 = all.iter().sum();
        let waiting: u64 = WAITING.iter().filter_map(|at| all.get(*at)).sum();
        // Its name, in brackets, may hold anything. What it took in user and in system
        // mode are the 12th and the 13th behind that.
        let (_, own) = own.rsplit_once(')')?;
        let mut own = own.split_whitespace().skip(11).map(str::parse::<u64>);
        let own = own.next()?.ok()? + own.next()?.ok()?;
        (all.len() == KINDS).then_some(Self {
            all: sum,
            busy: sum - waiting,
            own,
        })
    }

    /// The share of all cores that other processes took since then.
    fn others_since(self, before: Self) -> Option<f64> {
        let less = |now: u64, before: u64| now.saturating_sub(before);
        let all = less(self.all, before.all);
        let others = less(less(self.busy, before.busy), less(self.own, before.own));
        let count = |ticks: u64| f64::from(u32::try_from(ticks).unwrap_or(u32::MAX));
        (all > 0).then(|| count(others) / count(all))
    }
}

/// Sees that what is on offer follows the rule.
pub(crate) struct Keeper {
    provider: Arc<Provider>,
    when: When,
    /// Whether the answers are computed in this process: then their work is known
    /// from that of others.
    is_own_engine: bool,
    idle: Idle,
    ticks: Option<Ticks>,
    is_open: Option<bool>,
}

impl Keeper {
    /// Does what the rule says now. A machine is not idle before it was so for a while.
    pub(crate) fn new(
        provider: Arc<Provider>,
        when: When,
        is_own_engine: bool,
    ) -> Result<Self, WhenError> {
        let ticks = match when {
            When::Idle => Some(Ticks::read()?),
            When::Hours(_) => None,
        };
        let mut keeper = Self {
            provider,
            when,
            is_own_engine,
            idle: Idle::default(),
            ticks,
            is_open: None,
        };
        keeper.look();
        Ok(keeper)
    }

    /// Goes on so until it is stopped.
    pub(crate) async fn keep(mut self, stop: CancellationToken) {
        while stop.run_until_cancelled(sleep(LOOK_EVERY)).await.is_some() {
            self.look();
        }
    }

    fn look(&mut self) {
        let is_open = match &self.when {
            When::Hours(ranges) => {
                let minute = minute_of_day(clock::now(), &TimeZone::system());
                ranges.iter().any(|range| range.has(minute))
            }
            When::Idle => {
                let share = self.others();
                self.idle.look(share, Instant::now())
            }
        };
        if self.is_open.replace(is_open) == Some(is_open) {
            return;
        }
        self.provider.rest(!is_open);
        match is_open {
            true => info!("it is time to sell: the offers are on the market"),
            false => info!("it is no time to sell: the offers are off the market"),
        }
    }

    /// What others take of the processor; none while a server beside us may be
    /// what works, for our own answers.
    fn others(&mut self) -> Option<f64> {
        let ticks = match Ticks::read() {
            Ok(ticks) => ticks,
            Err(error) => {
                warn!(%error, "not known whether the machine is idle");
                return None;
            }
        };
        let before = self.ticks.replace(ticks)?;
        let offers = self.provider.status().offers;
        let works = !self.is_own_engine && offers.iter().any(|offer| offer.running > 0);
        ticks.others_since(before).filter(|_| !works)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(text: &str) -> Vec<Range> {
        match text.parse().unwrap() {
            When::Hours(ranges) => ranges,
            When::Idle => panic!("{text} is idle"),
        }
    }

    /// The hours of the day that are in it.
    fn in_it(text: &str) -> Vec<u16> {
        let ranges = hours(text);
        let has = |hour: &u16| ranges.iter().any(|range| range.has(hour * 60));
        (0..24).filter(has).collect()
    }

    #[test]
    fn a_range_may_go_over_midnight_and_several_add_up() {
        assert_eq!(in_it("22:00-02:00"), [0, 1, 22, 23]);
        assert_eq!(in_it("9:00-11:00"), [9, 10]);
        assert_eq!(in_it("22:00-24:00, 6:30-8:00"), [7, 22, 23]);
        assert_eq!(in_it("00:00-24:00").len(), 24);
        let [range] = hours("22:15-22:16")[..] else {
            panic!("one range")
        };
        let minutes = [22 * 60 + 14, 22 * 60 + 15, 22 * 60 + 16];
        assert_eq!(
            minutes.map(|minute| range.has(minute)),
            [false, true, false]
        );
    }

    #[test]
    fn who_rests_knows_until_when() {
        let opens = |text: &str, hour: u16| opens(&hours(text), hour * 60);
        assert_eq!(opens("22:15-07:00", 9), Some(22 * 60 + 15));
        assert_eq!(opens("9:00-11:00,22:00-23:00", 12), Some(22 * 60));
        assert_eq!(opens("9:00-11:00", 23), Some(9 * 60));
        assert!(When::Idle.rest().contains("idle for 60 s"));
    }

    #[test]
    fn what_is_no_time_is_refused_and_named() {
        assert_eq!("idle".parse(), Ok(When::Idle));
        let many = ["1:00-2:00"; RANGES_MAX + 1].join(",");
        for bad in [
            "",
            "Idle",
            "22",
            "22-7",
            "22:00",
            "22:00-",
            "22:00-22:00",
            "24:00-1:00",
            "22:60-7:00",
            "22:0-7:00",
            "+2:00-7:00",
            "25:00-1:00",
            "22:00-07:00;",
            "22:00-24:01",
            &many,
        ] {
            assert!(bad.parse::<When>().is_err(), "{bad}");
        }
        let error = "22:00-07:00,8-9".parse::<When>().unwrap_err();
        assert!(error.to_string().contains("\"8-9\""), "{error}");
    }

    #[test]
    fn hours_are_those_of_the_zone_in_summer_and_in_winter() {
        let berlin = "CET-1CEST,M3.5.0,M10.5.0/3";
        let berlin = TimeZone::posix(berlin).unwrap();
        let winter = Timestamp(1_768_435_200); // 2026-01-15 00:00 UTC
        let summer = Timestamp(1_784_073_600); // 2026-07-15 00:00 UTC
        assert_eq!(minute_of_day(winter, &berlin), 60);
        assert_eq!(minute_of_day(summer, &berlin), 120);
        assert_eq!(minute_of_day(winter, &TimeZone::UTC), 0);
    }

    #[test]
    fn what_lasts_for_a_moment_only_changes_nothing() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut idle = Idle::default();
        assert!(!idle.look(Some(0.0), at(0)));
        assert!(!idle.look(Some(0.0), at(59)));
        // Neither quiet nor busy: it begins anew.
        assert!(!idle.look(Some(0.2), at(60)));
        assert!(!idle.look(Some(0.0), at(65)));
        assert!(!idle.look(None, at(100)), "not known is not quiet");
        assert!(!idle.look(Some(0.0), at(105)));
        assert!(idle.look(Some(0.1), at(165)));

        assert!(idle.look(Some(0.3), at(170)), "not enough to go");
        assert!(idle.look(Some(0.9), at(175)));
        assert!(idle.look(Some(0.1), at(180)));
        assert!(idle.look(Some(0.9), at(185)));
        assert!(idle.look(Some(0.9), at(194)));
        assert!(!idle.look(Some(0.9), at(195)));
    }

    #[test]
    fn ones_own_work_is_none_of_others() {
        let own = |user: u64, system: u64| {
            format!("7 (a ) b) S 1 7 7 0 -1 4194560 9 0 0 0 {user} {system} 0 0 20 0 9 0 5 0")
        };
        let stat = |user: u64, idle: u64| format!("cpu  {user} 0 0 {idle} 5 0 0 0 3 0\ncpu0 1 2\n");
        let before = Ticks::parse(&stat(100, 1000), &own(10, 5)).unwrap();
        let expected = Ticks {
            all: 1105,
            busy: 100,
            own: 15,
        };
        assert_eq!(before, expected);
        let later = Ticks::parse(&stat(180, 1120), &own(60, 15)).unwrap();
        // 200 ticks in all, 80 of them busy, 60 by us.
        assert_eq!(later.others_since(before), Some(0.1));
        assert_eq!(later.others_since(later), None);
        for bad in ["", "cpu", "cpu  1 2 3", "cpu  a 0 0 0 0 0 0 0", "intr 1 2"] {
            assert_eq!(Ticks::parse(bad, &own(0, 0)), None, "{bad}");
        }
        assert_eq!(Ticks::parse(&stat(1, 1), "7 (a) S 1"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_machine_says_what_its_processor_does() {
        let ticks = Ticks::read().unwrap();
        assert!(
            ticks.all >= ticks.busy && ticks.busy >= ticks.own,
            "{ticks:?}"
        );
    }
}
