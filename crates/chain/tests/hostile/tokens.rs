//! What tokens say of themselves, which whoever made them wrote.

use chain::{Network, Token};
use market::{Address, Amount};

use crate::reading::{connected, servers};

const FOREIGN: Address = Address::repeat_byte(0xab);
/// How it is told apart from others.
const SHORT: &str = "0xABaBaBaB";

#[tokio::test]
async fn a_token_is_read_once_and_stands_beside_its_address() {
    let one = servers::<1>().await;
    let ledger = connected(&one).await.expect("connected");
    let token = ledger.token(FOREIGN).await.expect("read");
    assert_eq!(
        token.shown(Amount::new(1_500_000)),
        format!("1.5 FOO@{SHORT}")
    );
    let asked = one[0].asked("eth_call");
    assert_eq!(ledger.token(FOREIGN).await.expect("read"), token);
    let mor = ledger.token(Network::local().mor).await.expect("known");
    assert_eq!(mor.symbol, "MOR");
    assert_eq!(one[0].asked("eth_call"), asked);
}

#[tokio::test]
async fn a_hostile_symbol_is_not_shown_and_no_token_passes_for_mor() {
    let long = "A".repeat(100_000);
    for symbol in [
        "\u{1b}[2J",
        "<script>",
        "\u{202e}ROM",
        "MOR USDC",
        "",
        &long,
    ] {
        let one = servers::<1>().await;
        one[0].says().symbol = symbol.to_owned();
        let ledger = connected(&one).await.expect("connected");
        let token = ledger.token(FOREIGN).await.expect("read");
        assert_eq!((token.symbol.as_str(), token.decimals), (SHORT, 6));
    }
    let one = servers::<1>().await;
    one[0].says().symbol = "MOR".to_owned();
    let ledger = connected(&one).await.expect("connected");
    let token = ledger.token(FOREIGN).await.expect("read");
    assert_eq!(token.symbol, format!("MOR@{SHORT}"));
}

#[tokio::test]
async fn a_token_with_decimals_beyond_all_bounds_is_told_in_base_units() {
    for decimals in [37, 255, 256, u128::MAX] {
        let one = servers::<1>().await;
        one[0].says().decimals = decimals;
        let ledger = connected(&one).await.expect("connected");
        let token = ledger.token(FOREIGN).await.expect("read");
        assert_eq!(token, Token::unknown(FOREIGN), "{decimals}");
    }
}

#[tokio::test]
async fn one_liar_of_three_decides_nothing_about_decimals() {
    for liar in 0..3 {
        let three = servers::<3>().await;
        three[liar].says().decimals = 18;
        let ledger = connected(&three).await.expect("connected");
        let token = ledger.token(FOREIGN).await.expect("agreed");
        assert_eq!(token.decimals, 6);
    }
}
