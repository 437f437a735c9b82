//! The words and the rules of the market: amounts, quotes, channels, vouchers, receipts. Pure.
