//! What fuzzing of embeddings kept, through the same functions (`fuzz/`).

#[path = "../../../../fuzz/bodies/openai.rs"]
mod bodies;

fn each_of(target: &str, body: fn(&[u8])) {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus");
    let files = std::fs::read_dir(format!("{corpus}/{target}")).unwrap();
    let files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    assert!(!files.is_empty(), "no corpus for {target}");
    for file in files {
        eprintln!("{}", file.display());
        body(&std::fs::read(file).unwrap());
    }
}

#[test]
fn what_fuzzing_kept_is_still_handled() {
    each_of("embeddings", bodies::embeddings);
    each_of("vectors", bodies::vectors);
}
