//! What fuzzing of descriptors and load digests kept, through the same functions (`fuzz/`).

#[path = "../../../fuzz/bodies/market.rs"]
mod bodies;

fn each_of(target: &str, body: fn(&[u8])) {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus");
    let files = std::fs::read_dir(format!("{corpus}/{target}")).expect("the corpus is there");
    let files: Vec<_> = files
        .map(|file| file.expect("the corpus is readable").path())
        .collect();
    assert!(!files.is_empty());
    for file in files {
        eprintln!("{}", file.display());
        body(&std::fs::read(file).expect("the corpus is readable"));
    }
}

#[test]
fn what_fuzzing_kept_is_still_handled() {
    each_of("descriptor", bodies::descriptor);
    each_of("load", bodies::load);
}
