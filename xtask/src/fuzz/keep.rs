//! What a campaign has grown, made small enough to be committed: `corpora/TARGET/grown`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Result, ensure};

use super::libfuzzer::program;
use crate::run::{root, say};

/// Of one target. All of them together, and the seeds, stay below a megabyte.
const MOST_FILES: usize = 64;
const MOST_BYTES: u64 = 48 * 1024;

/// Of the smallest set that goes wherever the whole corpus goes (libFuzzer's set cover), a part that is spread over all sizes.
pub fn keep(target: &str) -> Result<()> {
    let (corpus, kept) =
        (root().join("fuzz/corpus").join(target), root().join("tests/fuzzed/corpora").join(target));
    let least = root().join("fuzz/corpus").join(format!("{target}.least"));
    for folder in [&least, &kept.join("grown")] {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
    }
    let mut merge = program(target)?;
    merge.arg("-set_cover_merge=1").arg(&least).arg(&corpus);
    let status = merge.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    ensure!(status.success(), "the corpus of {target} could not be made smaller ({status})");
    let chosen = spread(files(&least)?);
    let bytes: u64 = chosen.iter().map(|(size, _)| size).sum();
    for (_, file) in &chosen {
        if let Some(name) = file.file_name() {
            fs::copy(file, kept.join("grown").join(name))?;
        }
    }
    say(&format!("{target}: {} files kept, {bytes} bytes", chosen.len()));
    Ok(())
}

fn files(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        files.push((entry.metadata()?.len(), entry.path()));
    }
    files.sort();
    Ok(files)
}

/// Every so many-th by size, as many as there is room for.
fn spread(files: Vec<(u64, PathBuf)>) -> Vec<(u64, PathBuf)> {
    let total: u64 = files.iter().map(|(size, _)| size).sum();
    let by_count = files.len().div_ceil(MOST_FILES);
    let by_bytes = usize::try_from(total.div_ceil(MOST_BYTES)).unwrap_or(usize::MAX);
    files.into_iter().step_by(by_count.max(by_bytes).max(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_of_all_sizes_and_has_room() {
        let files: Vec<(u64, PathBuf)> =
            (0..1000).map(|size| (size, PathBuf::from(size.to_string()))).collect();
        let kept = spread(files);
        assert!((40..=MOST_FILES).contains(&kept.len()), "{}", kept.len());
        assert!(kept.iter().map(|(size, _)| size).sum::<u64>() <= MOST_BYTES);
        assert!(kept[0].0 < 50 && kept.last().unwrap().0 > 900);
        assert_eq!(spread(vec![(7, "x".into())]).len(), 1);
        assert!(spread(Vec::new()).is_empty());
    }
}
