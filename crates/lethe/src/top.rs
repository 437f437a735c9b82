//! `lethe top`: one running node at a glance, on a terminal; without a
//! terminal one plain page.

mod screen;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use console::{Key, Term};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::cli::top::Top;
use crate::client::{Client, ClientError, json};
use crate::clock;
use crate::money::Money;
use crate::output;
use screen::{Gateway, Line, Look, Screen, Service, Speed, State};

/// Between two looks at the node.
const EVERY: Duration = Duration::from_secs(1);
/// Money is read from the chain: not at each look.
const MONEY_EVERY: Duration = Duration::from_secs(10);

/// A page of its own, without a cursor; what was there before comes back in the end.
const OPEN: &str = "\x1b[?1049h\x1b[?25l";
const CLOSE: &str = "\x1b[?25h\x1b[?1049l";
/// To the page's beginning, and what is left behind a line and below the last one.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";
const BOLD: &str = "\x1b[1m";
const USUAL: &str = "\x1b[0m";

/// `lethe top`.
pub(crate) async fn top(args: Top) -> Result<(), ClientError> {
    let mut node = Node::on(args.data.folder)?;
    let first = node.look().await?;
    if !output::is_terminal() {
        // The second look has a speed.
        tokio::time::sleep(EVERY).await;
        for line in node.look().await?.lines(usize::MAX) {
            output::line(line.text);
        }
        return Ok(());
    }
    output::text(OPEN);
    watch(&mut node, first).await;
    output::text(CLOSE);
    Ok(())
}

/// Shows it until somebody has seen enough. A node that is gone is named on
/// the page: it may come back.
async fn watch(node: &mut Node, mut shown: Screen) {
    let mut quit = quit_key();
    let mut problem = None;
    loop {
        let (height, width) = Term::stdout().size();
        let lines = shown.lines(width.into());
        output::text(page(
            &lines,
            problem.as_deref(),
            height.into(),
            width.into(),
        ));
        tokio::select! {
            _ = &mut quit => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let looked = tokio::select! {
            _ = &mut quit => return,
            looked = node.look() => looked,
        };
        problem = match looked {
            Ok(screen) => {
                shown = screen;
                None
            }
            Err(error) => {
                node.find_again();
                Some(output::with_causes(&error).replace(['\n', '\t'], " "))
            }
        };
    }
}

/// Tells of the first key that ends it.
fn quit_key() -> oneshot::Receiver<()> {
    let (pressed, quit) = oneshot::channel();
    // It reads the terminal and cannot be stopped at that. It ends with the
    // key that ends the program, when the terminal is as it was before.
    std::thread::spawn(move || {
        let ends = |key: &Key| matches!(key, Key::Char('q') | Key::Escape | Key::CtrlC);
        while Term::stdout().read_key_raw().is_ok_and(|key| !ends(&key)) {}
        // Who listens is there until it hears.
        let _ = pressed.send(());
    });
    quit
}

/// What fits on the terminal; the last line says how to leave.
fn page(lines: &[Line], problem: Option<&str>, height: usize, width: usize) -> String {
    let mut page = HOME.to_owned();
    let last = match problem {
        Some(problem) => format!("q quits   {problem}"),
        None => "q quits".to_owned(),
    };
    let last = Line {
        text: last,
        is_title: problem.is_some(),
    };
    let lines = lines.iter().take(height.saturating_sub(1));
    for (at, line) in lines.chain([&last]).enumerate() {
        let text: String = line.text.chars().take(width).collect();
        // Keys are read in a mode in which a line's end is no return.
        let next = if at == 0 { "" } else { "\r\n" };
        let (bold, usual) = if line.is_title {
            (BOLD, USUAL)
        } else {
            ("", "")
        };
        // Writing to a string cannot fail.
        let _ = write!(page, "{next}{bold}{text}{usual}{CLEAR_LINE}");
    }
    page.push_str(CLEAR_BELOW);
    page
}

/// The node that is looked at, and what it said before.
struct Node {
    folder: Option<PathBuf>,
    client: Client,
    begun: Instant,
    speed: Speed,
    money: Option<(Instant, Result<Money, String>)>,
}

impl Node {
    /// The one that runs on this data folder.
    fn on(folder: Option<PathBuf>) -> Result<Self, ClientError> {
        Ok(Self {
            client: Client::of(folder.clone())?,
            folder,
            begun: Instant::now(),
            speed: Speed::default(),
            money: None,
        })
    }

    /// It may have been started anew, at another place.
    fn find_again(&mut self) {
        if let Ok(client) = Client::of(self.folder.clone()) {
            self.client = client;
        }
    }

    async fn look(&mut self) -> Result<Screen, ClientError> {
        let state: State = json(self.client.get("/api/state").await?).await?;
        let (gateway, service) = match self.figures().await? {
            Some(page) => (Gateway::read(&page), Service::read(&page)),
            None => (None, Service::None),
        };
        if self
            .money
            .as_ref()
            .is_none_or(|(at, _)| at.elapsed() >= MONEY_EVERY)
        {
            let money = self.read_money().await;
            let money = money.map_err(|error| output::with_causes(&error));
            self.money = Some((Instant::now(), money));
        }
        let look = Look {
            state: &state,
            gateway,
            service,
            today: clock::now(),
            money: match &self.money {
                Some((_, Ok(money))) => Ok(money),
                Some((_, Err(why))) => Err(why),
                None => Err("not asked yet"),
            },
        };
        let (url, now) = (&self.client.running.dashboard_url, self.begun.elapsed());
        Ok(Screen::of(&look, url, now, &mut self.speed))
    }

    /// None: it has no such page, as a provider of an older version.
    async fn figures(&self) -> Result<Option<String>, ClientError> {
        let page = match self.client.get("/metrics").await {
            Err(ClientError::Refused { status: 404, .. }) => return Ok(None),
            page => page?,
        };
        let page = page.text().await.map_err(ClientError::Broken)?;
        Ok(Some(page))
    }

    async fn read_money(&self) -> Result<Money, ClientError> {
        json(self.client.get("/api/money").await?).await
    }
}

#[cfg(test)]
mod tests {
    use market::{Address, Amount, Timestamp};

    use super::*;
    use crate::tower::Tally;

    const TODAY: Timestamp = Timestamp(1_700_000_000);
    const MOR_AND_A_HALF: Amount = Amount::new(1_500_000_000_000_000_000);
    const STATE: &str = r#"{
        "version": "1", "demonstration": true,
        "tokens": [{"address": "0x0808080808080808080808080808080808080808", "symbol": "MOR", "decimals": 18, "usd": {
            "token": "0x0808080808080808080808080808080808080808", "decimals": 18, "micro_usd": 2500000, "source": "a test"
        }}],
        "sellers": [{
            "name": "amber", "provider": "0x01", "channels": 1,
            "offers": [{
                "name": "tiny", "token": "0x0808080808080808080808080808080808080808", "rates": {"input_per_million": "500000000000000000", "output_per_million": "1000000000000000000"},
                "slots": 4, "running": 3, "queued": 2, "problem": "the backend cannot be reached"
            }],
            "counted": {"input_tokens": 30, "output_tokens": 100, "failed": 1, "refused_busy": 7, "refused_payment": 0, "refused_other": 0}
        }],
        "answers": [{"model": "tiny", "provider": "0x0123456789abcdef", "outcome": "failed"},
                    {"model": "tiny", "provider": "0x0123456789abcdef", "outcome": "complete"}]
    }"#;
    const MONEY: &str = r#"{"supply": "1", "sum": "1", "complete": true, "warnings": ["the clock is off"], "places": [
        {"label": "channel to amber: free", "detail": "yours", "kind": "escrow", "amount": "1500000000000000000"},
        {"label": "channel to amber: owed", "detail": "theirs", "kind": "earned", "amount": "0"},
        {"label": "amber: wallet", "detail": "theirs", "kind": "earned", "amount": "7"}],
        "token": {"address": "0x0808080808080808080808080808080808080808", "symbol": "MOR", "decimals": 18}}"#;
    const PAGE: &str = "\
lethe_gateway_running_answers 2
gen_ai_client_token_usage_sum{gen_ai_request_model=\"a\",gen_ai_token_type=\"output\"} 40
gen_ai_client_token_usage_sum{gen_ai_request_model=\"a\",gen_ai_token_type=\"input\"} 9
gen_ai_client_token_usage_sum{gen_ai_request_model=\"b\",gen_ai_token_type=\"output\"} 2
";

    fn screen(gateway: Option<Gateway>, speed: &mut Speed, seconds: u64) -> Screen {
        let state: State = serde_json::from_str(STATE).unwrap();
        let money: Money = serde_json::from_str(MONEY).unwrap();
        let look = Look {
            state: &state,
            gateway,
            service: Service::None,
            today: TODAY,
            money: Ok(&money),
        };
        Screen::of(&look, "http://a/", Duration::from_secs(seconds), speed)
    }

    fn text(screen: &Screen, width: usize) -> String {
        let lines = screen.lines(width).into_iter().map(|line| line.text);
        lines.collect::<Vec<_>>().join("\n")
    }

    /// What a node shows that is no gateway and sells nothing.
    fn serves(page: &str) -> String {
        let money: Money = serde_json::from_str(MONEY).unwrap();
        let state: State = serde_json::from_str(STATE).unwrap();
        let look = Look {
            state: &state.without_sellers(),
            gateway: None,
            service: Service::read(page),
            today: TODAY,
            money: Ok(&money),
        };
        let screen = Screen::of(&look, "http://a/", Duration::ZERO, &mut Speed::default());
        text(&screen, 100)
    }

    #[test]
    fn what_matters_is_on_the_page() {
        let page = text(&screen(None, &mut Speed::default(), 0), usize::MAX);
        for words in [
            "lethe 1 at http://a/   3 requests running   - output tokens/s   since the start: 30 input tokens   100 output tokens",
            "tiny   amber     failing  0.5 / 1 MOR   $1.25 / $2.50  3 of 4 running  2 waiting",
            "channel to amber: free  1.5 MOR  yours",
            "tiny of amber       the backend cannot be reached",
            "amber               1 answers broke off since the start",
            "amber               7 requests were refused: all places were taken",
            "tiny of 0x01234567  an answer broke off",
            "money               the clock is off",
        ] {
            assert!(page.contains(words), "no {words:?} in\n{page}");
        }
        assert!(!page.contains("wallet") && !page.contains("owed"), "{page}");
    }

    #[test]
    fn who_sells_itself_shows_what_others_sell_too() {
        let rates = r#""token": "0x0808080808080808080808080808080808080808",
            "rates": {"input_per_million": "1", "output_per_million": "1"}, "live": true, "running": 0"#;
        let models = format!(
            r#""models": [{{"name": "tiny", "offers": [{{"provider": "0x01", {rates}}}]}},
                {{"name": "demo", "offers": [{{"provider": "0x02bbbbbbbbbb", {rates}}}]}}],
            "sellers""#
        );
        let state: State = serde_json::from_str(&STATE.replace("\"sellers\"", &models)).unwrap();
        let look = Look {
            state: &state,
            gateway: None,
            service: Service::None,
            today: TODAY,
            money: Err("not asked"),
        };
        let speed = &mut Speed::default();
        let screen = Screen::of(&look, "http://a/", Duration::ZERO, speed);
        let page = text(&screen, usize::MAX);
        let rows = |begin: &str| {
            let lines = page.lines().map(str::trim_start);
            lines.filter(|line| line.starts_with(begin)).count()
        };
        assert_eq!(rows("demo   0x02bbbbbb  live"), 1, "{page}");
        // Its own once, by its name.
        assert_eq!((rows("tiny   amber "), rows("tiny   ")), (1, 1), "{page}");
    }

    #[test]
    fn a_relay_shows_what_it_carries() {
        let counts = "lethe_relay_streams_total 8\nlethe_relay_running_streams 2\nlethe_relay_waiting_nodes 3\n\
                      lethe_relay_bytes_total{direction=\"up\"} 10\nlethe_relay_bytes_total{direction=\"down\"} 20\n\
                      lethe_relay_refused_total{reason=\"busy\"} 1\nlethe_relay_refused_total{reason=\"unknown\"} 4\n";
        let page = serves(counts);
        for words in [
            "a relay   2 streams running   8 since the start",
            "streams refused                  5: 1 while it was busy, 4 to nodes that it does not reach",
            "bytes carried, up / down         10 / 20",
            "providers that wait here         3",
        ] {
            assert!(page.contains(words), "no {words:?} in\n{page}");
        }
        assert!(!page.contains("Offers"), "{page}");
        assert!(matches!(Service::read(PAGE), Service::None));
    }

    #[test]
    fn a_tower_shows_what_it_holds_and_claimed() {
        let tally = Tally::default();
        let page = serves(&tally.page());
        for words in [
            "a tower   0 signed claims held   0 claims made",
            "the last one                         none yet",
            "last look at the file and the chain  not yet",
        ] {
            assert!(page.contains(words), "no {words:?} in\n{page}");
        }
        let at = |seconds: u64| Timestamp(TODAY.0 - seconds);
        tally.claimed(Address::repeat_byte(8), MOR_AND_A_HALF, at(90));
        tally.failed();
        tally.looked(3, 1, at(7));
        let page = serves(&tally.page());
        for words in [
            "a tower   3 signed claims held   1 claims made",
            "of these, payer withdrawing          1",
            "the last one                         90 s ago",
            "brought the provider                 1.5 MOR ($3.75)",
            "last look at the file and the chain  7 s ago",
            "tower  1 looks at the file and the chain failed since the start",
        ] {
            assert!(page.contains(words), "no {words:?} in\n{page}");
        }
        assert!(!page.contains("Offers"), "{page}");
    }

    #[test]
    fn a_narrow_terminal_has_fewer_columns_and_no_line_that_is_cut() {
        let screen = screen(None, &mut Speed::default(), 0);
        for width in [40, 60, 80, 100, 120] {
            let page = text(&screen, width);
            for line in page.lines() {
                assert!(
                    line.chars().count() <= width,
                    "{width}: {line:?} in\n{page}"
                );
            }
            // What goes wrong is said in full, on as many lines as it takes.
            let words: Vec<_> = page.split_whitespace().collect();
            assert!(words.join(" ").contains("all places were taken"), "{page}");
            for word in ["tiny", "failing", "3 of 4 running", "1.5 MOR"] {
                assert!(page.contains(word), "{width}: no {word:?} in\n{page}");
            }
        }
        let holds = |width: usize, word: &str| text(&screen, width).contains(word);
        assert!(holds(80, "0.5 / 1 MOR") && holds(80, "amber     failing"));
        assert!(holds(120, "$1.25 / $2.50") && !holds(80, "$1.25 / $2.50"));
        assert!(holds(60, "amber     failing") && holds(60, "0.5 / 1 MOR"));
        assert!(holds(50, "amber     failing") && !holds(50, "0.5 / 1 MOR"));
        assert!(!holds(40, "amber     failing"));
    }

    #[test]
    fn who_rests_is_shown_with_until_when() {
        let rests = STATE.replace(
            r#""channels": 1"#,
            r#""resting": true, "rests": "until 22:00""#,
        );
        let rests = rests.replace(r#", "problem": "the backend cannot be reached""#, "");
        let state: State = serde_json::from_str(&rests).unwrap();
        let look = Look {
            state: &state,
            gateway: None,
            service: Service::None,
            today: TODAY,
            money: Err("not asked"),
        };
        let speed = &mut Speed::default();
        let screen = Screen::of(&look, "http://a/", Duration::ZERO, speed);
        let page = text(&screen, 80);
        assert!(page.contains("amber     rests until 22:00"), "{page}");
        assert!(!page.contains("sells"), "{page}");
    }

    #[test]
    fn the_speed_is_a_mean_of_the_last_looks() {
        let mut speed = Speed::default();
        let gateway = Gateway::read(PAGE).unwrap();
        assert!(
            screen(Some(gateway), &mut speed, 0).lines(usize::MAX)[0]
                .text
                .contains("2 requests running   - output tokens/s")
        );
        let later = PAGE.replace("} 40", "} 100");
        let later = Gateway::read(&later).unwrap();
        let title = screen(Some(later), &mut speed, 4).lines(usize::MAX)[0]
            .text
            .clone();
        assert!(
            title.contains(
                "15.0 output tokens/s   since the start: 9 input tokens   102 output tokens"
            ),
            "{title}"
        );
        assert_eq!(Gateway::read("<html>"), None);
    }

    #[test]
    fn it_fits_a_small_terminal_and_a_large_one() {
        let screen = screen(None, &mut Speed::default(), 0);
        let lines = screen.lines(80);
        for (height, width) in [(1, 1), (5, 20), (24, 80), (60, 200)] {
            let page = page(&lines, Some("the node does not answer"), height, width);
            let marks = [HOME, CLEAR_LINE, CLEAR_BELOW, BOLD, USUAL];
            let shown = marks.iter().fold(page, |page, mark| page.replace(mark, ""));
            let shown: Vec<_> = shown.split("\r\n").collect();
            assert!(shown.len() <= height, "{shown:?}");
            assert!(
                shown.iter().all(|line| line.chars().count() <= width),
                "{shown:?}"
            );
        }
        let page = page(&lines, None, 60, 200);
        for words in [
            "Offers",
            "3 of 4 running",
            "the backend cannot be reached",
            "q quits",
        ] {
            assert!(page.contains(words), "no {words:?} in\n{page}");
        }
    }
}
