//! `lethe chats`: what is kept. It needs no running node.

use market::Timestamp;
use serde::Serialize;
use serde_json::json;

use crate::folder::{Folder, FolderError};
use crate::history::{self, Chats, HistoryError, Id, Key, Summary};
use crate::{chat, cli, clock, output};

/// Why the kept conversations could not be listed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChatsError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error("of the kept conversations, {unread} could not be read; the list says why")]
    Unread { unread: usize },
}

/// Lists them, prints one, or forgets one.
pub(crate) fn chats(args: cli::Chats) -> Result<(), ChatsError> {
    let folder = Folder::look(args.data.folder)?;
    let chats = Chats::in_folder(folder.join("chats"));
    let id = |text: &str| text.parse::<Id>().map_err(HistoryError::from);
    if let Some(text) = &args.forget {
        let id = id(text)?;
        chats.forget(&id)?;
        output::line(format!("{id} is forgotten."));
        return Ok(());
    }
    if let Some(text) = &args.show {
        let id = id(text)?;
        let key = history::unlocked(&chats, &args.unlock)?;
        let (conversation, _) = chats.open(&id, &key)?;
        if args.json {
            output::json(&conversation);
            return Ok(());
        }
        for message in &conversation.messages {
            output::line(chat::said(message));
        }
        return Ok(());
    }
    let ids = chats.ids()?;
    if ids.is_empty() {
        match args.json {
            true => output::json(&json!({ "kept": [], "problems": [] })),
            false => output::line(format!(
                "No conversation is kept; `lethe chat{} --keep` keeps one.",
                chats.flag()
            )),
        }
        return Ok(());
    }
    let key = history::unlocked(&chats, &args.unlock)?;
    list(&chats, &ids, &key, args.json)
}

/// The last one first; those that cannot be read at the end, each with its problem.
fn list(chats: &Chats, ids: &[Id], key: &Key, json: bool) -> Result<(), ChatsError> {
    let (mut summaries, mut problems, mut unread) = (Vec::new(), Vec::new(), 0);
    for id in ids {
        match chats.open(id, key) {
            Ok((conversation, _)) => summaries.push(conversation.summary()),
            Err(problem) => {
                // That somebody uses two keys is nothing wrong.
                unread += usize::from(!matches!(problem, HistoryError::OtherKey { .. }));
                problems.push(Problem {
                    id,
                    problem: problem.to_string(),
                });
            }
        }
    }
    summaries.sort_by_key(|summary| std::cmp::Reverse(summary.changed));
    if json {
        output::json(&json!({ "kept": summaries, "problems": problems }));
    } else {
        let now = clock::now();
        for summary in &summaries {
            output::line(line(summary, now));
        }
        for Problem { id, problem } in &problems {
            output::line(format!("{id}  {problem}"));
        }
    }
    match unread {
        0 => Ok(()),
        unread => Err(ChatsError::Unread { unread }),
    }
}

/// One that cannot be read, and why.
#[derive(Serialize)]
struct Problem<'a> {
    id: &'a Id,
    problem: String,
}

fn line(summary: &Summary, now: Timestamp) -> String {
    let Summary {
        id,
        title,
        model,
        questions,
        changed,
    } = summary;
    let asked = match questions {
        1 => "1 question".into(),
        more => format!("{more} questions"),
    };
    let model = output::plain(model);
    format!(
        "{id}  {:<11}  {asked:<12}  {model}  {title}",
        ago(*changed, now)
    )
}

/// How long ago something was, in the largest unit that fits.
pub(crate) fn ago(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.0.saturating_sub(then.0);
    match seconds {
        0..60 => "now".into(),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_their_largest_unit() {
        let told = [
            (59, "now"),
            (60, "1 min ago"),
            (7200, "2 h ago"),
            (200_000, "2 d ago"),
        ];
        for (seconds, text) in told {
            assert_eq!(ago(Timestamp(1000), Timestamp(1000 + seconds)), text);
        }
        assert_eq!(ago(Timestamp(1000), Timestamp(0)), "now");
    }
}
