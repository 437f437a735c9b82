//! How long the answers of one offer take: figures only, for whoever keeps an
//! eye on the provider.

use std::time::Duration;

use market::Outcome;
use metrics::{DURATION_MS, Histogram, TOKEN_TIME_MS, TTFT_MS};

/// How long the answers of one offer took since the start.
#[derive(Debug)]
pub struct Times {
    complete: Histogram,
    cancelled: Histogram,
    failed: Histogram,
    ttft: Histogram,
    token: Histogram,
}

impl Default for Times {
    fn default() -> Self {
        let duration = || Histogram::new(&DURATION_MS);
        Self {
            complete: duration(),
            cancelled: duration(),
            failed: duration(),
            ttft: Histogram::new(&TTFT_MS),
            token: Histogram::new(&TOKEN_TIME_MS),
        }
    }
}

impl Times {
    /// From taking a request to the end of its answer, of answers that ended so.
    pub fn duration(&self, outcome: Outcome) -> &Histogram {
        match outcome {
            Outcome::Complete => &self.complete,
            Outcome::Cancelled => &self.cancelled,
            Outcome::Failed => &self.failed,
        }
    }

    /// From taking a request to its answer's first chunk, a wait for a place included.
    pub fn ttft(&self) -> &Histogram {
        &self.ttft
    }

    /// Time of each token after the first, of an answer as a whole.
    pub fn token(&self) -> &Histogram {
        &self.token
    }

    /// An answer of so many tokens ended. `first`: when its first chunk was out.
    pub(crate) fn ended(
        &self,
        outcome: Outcome,
        took: Duration,
        first: Option<Duration>,
        tokens: u32,
    ) {
        self.duration(outcome).time(took);
        let Some(first) = first else { return };
        self.ttft.time(first);
        if tokens > 1 {
            self.token.time(took.saturating_sub(first) / (tokens - 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use metrics::{Page, Unit};

    use super::*;

    fn lines(histogram: &Histogram) -> String {
        let mut page = Page::default();
        page.head("t", "histogram", "T.");
        page.histogram("a=\"b\"", histogram, Unit::Seconds);
        page.text()
    }

    #[test]
    fn only_what_began_has_a_first_token() {
        let times = Times::default();
        let ms = Duration::from_millis;
        times.ended(Outcome::Complete, ms(500), Some(ms(100)), 5);
        times.ended(Outcome::Failed, ms(40), None, 0);
        times.ended(Outcome::Cancelled, ms(40), Some(ms(40)), 1);
        for (histogram, sum, count) in [
            (times.ttft(), "0.14", 2),
            (times.token(), "0.1", 1),
            (times.duration(Outcome::Complete), "0.5", 1),
            (times.duration(Outcome::Failed), "0.04", 1),
            (times.duration(Outcome::Cancelled), "0.04", 1),
        ] {
            let lines = lines(histogram);
            let told = [
                format!("t_sum{{a=\"b\"}} {sum}\n"),
                format!("t_count{{a=\"b\"}} {count}\n"),
            ];
            assert!(told.iter().all(|line| lines.contains(line)), "{lines}");
        }
    }
}
