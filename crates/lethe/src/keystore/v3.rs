//! Keystore V3: the encrypted key file of geth, Foundry and most wallets.
//!
//! The one library for it (`eth-keystore`) takes any cost that a file asks
//! for, panics on short keys and writes files that others can read; so only
//! the ciphers and the functions of derivation are libraries here. A file
//! comes from anywhere: what it may ask of this machine has limits.

use aes::Aes128;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use market::{KeyError, WalletKey, keccak256};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The work of one guess, as a power of two: about a second and 256 MiB, as geth has it.
pub(crate) const WORK: u8 = 18;
/// The most memory that a file may ask for: four times that.
const MEMORY_MAX: u64 = 1 << 30;
/// The most rounds over that memory.
const PARALLEL_MAX: u32 = 16;
/// The most rounds of PBKDF2.
const ROUNDS_MAX: u32 = 10_000_000;
/// The largest file.
pub(crate) const FILE_BYTES_MAX: usize = 64 << 10;
/// Bytes of a derived key: half for the cipher, half for the check.
const DERIVED_BYTES: usize = 32;

/// Why a file gives no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum V3Error {
    #[error("it is no JSON of a Keystore V3")]
    Json(#[source] serde_json::Error),
    #[error("its {field} is {value}, allowed: {allowed}")]
    Field {
        field: &'static str,
        value: String,
        allowed: &'static str,
    },
    #[error("this is not its passphrase, or it is damaged")]
    WrongPassphrase,
    #[error("what it holds is not a key")]
    NotAKey(#[source] KeyError),
    #[error("it says address {said}, and its key is that of {found}")]
    OtherAddress { said: String, found: String },
}

#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    #[serde(default)]
    id: String,
    /// Without `0x`; some programs leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    #[serde(alias = "Crypto")]
    crypto: Crypto,
}

#[derive(Serialize, Deserialize)]
struct Crypto {
    cipher: String,
    cipherparams: CipherParams,
    ciphertext: String,
    #[serde(flatten)]
    kdf: Kdf,
    mac: String,
}

#[derive(Serialize, Deserialize)]
struct CipherParams {
    iv: String,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kdf", content = "kdfparams", rename_all = "lowercase")]
enum Kdf {
    Scrypt {
        dklen: u32,
        n: u64,
        p: u32,
        r: u32,
        salt: String,
    },
    Pbkdf2 {
        dklen: u32,
        c: u32,
        prf: String,
        salt: String,
    },
}

/// The file of `key` under this passphrase.
pub(crate) fn seal(key: &WalletKey, passphrase: &str, work: u8) -> String {
    let random = rand::random::<[u8; 16]>();
    let (salt, iv) = (rand::random::<[u8; 32]>(), rand::random::<[u8; 16]>());
    let kdf = Kdf::Scrypt {
        dklen: 32,
        n: 1 << work,
        p: 1,
        r: 8,
        salt: hex::encode(salt),
    };
    let derived = kdf
        .derive(passphrase)
        .expect("what is written here is within the limits");
    let mut ciphertext = key.to_bytes();
    apply(&derived, &iv, ciphertext.as_mut_slice());
    let file = File {
        version: 3,
        id: version_4(random),
        address: Some(hex::encode(key.address())),
        crypto: Crypto {
            cipher: "aes-128-ctr".into(),
            cipherparams: CipherParams {
                iv: hex::encode(iv),
            },
            ciphertext: hex::encode(*ciphertext),
            mac: hex::encode(check(&derived, &*ciphertext)),
            kdf,
        },
    };
    serde_json::to_string_pretty(&file).expect("it has only string keys")
}

/// The key in such a file.
pub(crate) fn open(text: &str, passphrase: &str) -> Result<WalletKey, V3Error> {
    let file: File = serde_json::from_str(text).map_err(V3Error::Json)?;
    if file.version != 3 {
        return Err(field("version", file.version, "3"));
    }
    let crypto = &file.crypto;
    if crypto.cipher != "aes-128-ctr" {
        return Err(field("cipher", &crypto.cipher, "aes-128-ctr"));
    }
    let iv: [u8; 16] = bytes("iv", &crypto.cipherparams.iv, "16 bytes in hexadecimal")?;
    let kept: [u8; 32] = bytes("ciphertext", &crypto.ciphertext, "32 bytes in hexadecimal")?;
    let mac: [u8; 32] = bytes("mac", &crypto.mac, "32 bytes in hexadecimal")?;
    let derived = crypto.kdf.derive(passphrase)?;
    if !bool::from(check(&derived, &kept).ct_eq(&mac)) {
        return Err(V3Error::WrongPassphrase);
    }
    let mut secret = Zeroizing::new(kept);
    apply(&derived, &iv, secret.as_mut_slice());
    let key = WalletKey::from_bytes(&secret).map_err(V3Error::NotAKey)?;
    let found = hex::encode(key.address());
    match file.address {
        Some(said) if !same(&said, &found) => Err(V3Error::OtherAddress { said, found }),
        _ => Ok(key),
    }
}

fn same(said: &str, found: &str) -> bool {
    said.strip_prefix("0x")
        .unwrap_or(said)
        .eq_ignore_ascii_case(found)
}

impl Kdf {
    fn derive(&self, passphrase: &str) -> Result<Zeroizing<[u8; DERIVED_BYTES]>, V3Error> {
        let (Self::Scrypt { dklen, salt, .. } | Self::Pbkdf2 { dklen, salt, .. }) = self;
        if *dklen != 32 {
            return Err(field("dklen", dklen, "32"));
        }
        let salt = hex::decode(salt).map_err(|_| field("salt", salt, "hexadecimal digits"))?;
        let mut derived = Zeroizing::new([0; DERIVED_BYTES]);
        match self {
            Self::Scrypt { n, p, r, .. } => {
                let params = scrypt_params(*n, *r, *p)?;
                scrypt::scrypt(
                    passphrase.as_bytes(),
                    &salt,
                    &params,
                    derived.as_mut_slice(),
                )
                .expect("32 bytes are a length that it gives");
            }
            Self::Pbkdf2 { c, prf, .. } => {
                if prf != "hmac-sha256" {
                    return Err(field("prf", prf, "hmac-sha256"));
                }
                if *c == 0 || *c > ROUNDS_MAX {
                    return Err(field("c", c, "1 to 10,000,000"));
                }
                let (secret, out) = (passphrase.as_bytes(), derived.as_mut_slice());
                pbkdf2::pbkdf2_hmac::<Sha256>(secret, &salt, *c, out);
            }
        }
        Ok(derived)
    }
}

fn scrypt_params(n: u64, r: u32, p: u32) -> Result<scrypt::Params, V3Error> {
    const ALLOWED: &str = "a power of two, at most 1 GiB with r";
    let memory = n.checked_mul(128).and_then(|m| m.checked_mul(r.into()));
    if !n.is_power_of_two() || n < 2 || memory.is_none_or(|memory| memory > MEMORY_MAX) {
        return Err(field("n", n, ALLOWED));
    }
    if p == 0 || p > PARALLEL_MAX {
        return Err(field("p", p, "1 to 16"));
    }
    let log_n = u8::try_from(n.trailing_zeros()).expect("at most 63");
    scrypt::Params::new(log_n, r, p, DERIVED_BYTES).map_err(|_| field("r", r, "1 and more"))
}

fn apply(derived: &[u8; DERIVED_BYTES], iv: &[u8; 16], data: &mut [u8]) {
    let mut key = Zeroizing::new([0; 16]);
    key.copy_from_slice(&derived[..16]);
    Ctr128BE::<Aes128>::new((&*key).into(), iv.into()).apply_keystream(data);
}

fn check(derived: &[u8; DERIVED_BYTES], ciphertext: &[u8]) -> [u8; 32] {
    let mut covered = Zeroizing::new(derived[16..].to_vec());
    covered.extend_from_slice(ciphertext);
    keccak256(&*covered).0
}

fn bytes<const N: usize>(
    name: &'static str,
    text: &str,
    allowed: &'static str,
) -> Result<[u8; N], V3Error> {
    let mut bytes = [0; N];
    let digits = text.strip_prefix("0x").unwrap_or(text);
    hex::decode_to_slice(digits, &mut bytes).map_err(|_| field(name, text, allowed))?;
    Ok(bytes)
}

fn field(field: &'static str, value: impl ToString, allowed: &'static str) -> V3Error {
    const SHOWN: usize = 80;
    let value = value.to_string().chars().take(SHOWN).collect();
    V3Error::Field {
        field,
        value,
        allowed,
    }
}

/// The text of a random UUID.
fn version_4(mut random: [u8; 16]) -> String {
    random[6] = random[6] & 0x0f | 0x40;
    random[8] = random[8] & 0x3f | 0x80;
    let digits = hex::encode(random);
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32];
    parts.map(|part| digits[part].to_owned()).join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As little work as there can be.
    const LIGHT: u8 = 1;
    /// From the Web3 Secret Storage Definition; its passphrase is `testpassword`.
    const KEY: &str = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";
    const ADDRESS: &str = "008AeEda4D805471dF9b2A5B0f38A0C3bCBA786b";

    fn pbkdf2_file() -> String {
        r#"{ "crypto": { "cipher": "aes-128-ctr",
            "cipherparams": { "iv": "6087dab2f9fdbbfaddc31a909735c1e6" },
            "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
            "kdf": "pbkdf2",
            "kdfparams": { "c": 262144, "dklen": 32, "prf": "hmac-sha256",
                "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd" },
            "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2" },
            "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6", "version": 3 }"#
            .into()
    }

    #[test]
    fn the_definitions_own_example_opens() {
        let key = open(&pbkdf2_file(), "testpassword").unwrap();
        assert_eq!(hex::encode(*key.to_bytes()), KEY);
        assert_eq!(hex::encode(key.address()), ADDRESS.to_lowercase());
    }

    #[test]
    fn a_key_comes_back_with_its_passphrase_and_no_other() {
        let key = WalletKey::from_bytes(&[7; 32]).unwrap();
        let text = seal(&key, "pass", LIGHT);
        assert_eq!(*open(&text, "pass").unwrap().to_bytes(), *key.to_bytes());
        assert!(matches!(open(&text, "Pass"), Err(V3Error::WrongPassphrase)));
        assert!(!text.contains(&hex::encode([7; 32])));
        let upper = text.replace("\"crypto\"", "\"Crypto\"");
        assert!(open(&upper, "pass").is_ok(), "as old programs write it");
    }

    #[test]
    fn a_file_may_not_ask_for_any_work() {
        let file = pbkdf2_file();
        for (from, to, named) in [
            ("\"c\": 262144", "\"c\": 4000000000", "its c is 4000000000"),
            ("\"c\": 262144", "\"c\": 0", "its c is 0"),
            ("\"dklen\": 32", "\"dklen\": 8", "its dklen is 8"),
            ("hmac-sha256", "hmac-md5", "its prf is hmac-md5"),
            ("aes-128-ctr", "aes-128-cbc", "its cipher is aes-128-cbc"),
            ("\"version\": 3", "\"version\": 1", "its version is 1"),
            ("6087dab2f9", "6087", "its iv is"),
            ("5318b4d5", "", "its ciphertext is"),
            ("517ead92", "51", "its mac is"),
            ("ae3cd4e7", "zz", "its salt is"),
        ] {
            let changed = file.replace(from, to);
            assert_ne!(changed, file, "{from}");
            let error = open(&changed, "testpassword").err().unwrap().to_string();
            assert!(error.contains(named), "{error}");
        }
        let key = WalletKey::from_bytes(&[7; 32]).unwrap();
        let light = seal(&key, "p", LIGHT);
        for (from, to, named) in [
            ("\"n\": 2", "\"n\": 1073741824", "its n is 1073741824"),
            ("\"n\": 2", "\"n\": 3", "its n is 3"),
            ("\"n\": 2", "\"n\": 0", "its n is 0"),
            ("\"p\": 1", "\"p\": 1000", "its p is 1000"),
            ("\"r\": 8", "\"r\": 0", "its r is 0"),
            ("\"r\": 8", "\"r\": 4294967295", "its n is 2"),
        ] {
            let changed = light.replace(from, to);
            assert_ne!(changed, light, "{from}");
            let error = open(&changed, "p").err().unwrap().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn a_file_with_anothers_address_is_refused() {
        let key = WalletKey::from_bytes(&[7; 32]).unwrap();
        let own = hex::encode(key.address());
        let text = seal(&key, "p", LIGHT).replace(&own, ADDRESS);
        let refused = open(&text, "p");
        assert!(matches!(refused, Err(V3Error::OtherAddress { .. })));
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_no_such_file_is_an_error(bytes in "[ -~]{0,200}") {
            assert!(open(&bytes, "p").is_err());
        }
    }

    #[test]
    fn ids_look_like_random_uuids() {
        assert_eq!(version_4([0; 16]), "00000000-0000-4000-8000-000000000000");
        assert_eq!(version_4([255; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
