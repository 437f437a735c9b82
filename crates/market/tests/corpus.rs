//! What fuzzing of descriptors kept, through the same functions (`fuzz/`).

#[path = "../../../fuzz/bodies/market.rs"]
mod bodies;

#[test]
fn what_fuzzing_kept_is_still_handled() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/descriptor");
    let files = std::fs::read_dir(corpus).unwrap();
    let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    assert!(!files.is_empty());
    for file in files {
        eprintln!("{}", file.display());
        bodies::descriptor(&std::fs::read(file).unwrap());
    }
}
