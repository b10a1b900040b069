//! Runs a crate's fuzzing targets over their kept inputs: `fuzz/seeds/<target>/*`. Part of each crate's own tests.

/// Runs them all; a target without inputs is a mistake.
pub(super) fn all(targets: &[super::Target]) {
    let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let seeds = seeds.map(|directory| directory.join("fuzz/seeds")).find(|seeds| seeds.is_dir());
    let seeds = seeds.expect("inputs are kept beside the crates");
    for (name, _, run) in targets {
        let inputs = std::fs::read_dir(seeds.join(name)).expect("each target has a directory of inputs");
        let mut count = 0;
        for input in inputs {
            let path = input.expect("the directory can be read").path();
            println!("{}", path.display());
            run(&std::fs::read(&path).expect("an input can be read"));
            count += 1;
        }
        assert!(count > 0, "{name} has kept inputs");
    }
}
