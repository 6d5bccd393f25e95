//! `replica`: the replicas that follow the stream, and dropping one that is not coming back.

use std::io::Write;
use std::process::ExitCode;

use reqwest::Method;
use serde_json::Value;

use super::CliError;
use super::source::Master;
use super::text::{ago, plain, write_json};
use crate::api::now;
use crate::api::replicas::ReplicasView;
use crate::config::ReplicaCommand;

pub(crate) async fn run(command: &ReplicaCommand, out: &mut impl Write) -> Result<ExitCode, CliError> {
    match command {
        ReplicaCommand::List { at, json } => {
            let replicas: ReplicasView = Master::at(&at.url)?.get("/api/v1/replicas").await?;
            if *json {
                write_json(out, &replicas, true)?;
            } else {
                print(out, &replicas)?;
            }
        }
        ReplicaCommand::Remove { at, name } => {
            let path = format!("/api/v1/replicas/{name}");
            let _: Value = Master::at(&at.url)?.send(Method::DELETE, &path).await?;
            writeln!(out, "replica {name} is dropped; if it still runs, it registers itself again")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One line for each replica.
pub(super) fn print(out: &mut impl Write, replicas: &ReplicasView) -> std::io::Result<()> {
    if replicas.list.is_empty() {
        writeln!(out, "no replica follows the stream")?;
    }
    for replica in &replicas.list {
        let position = replica.position.map_or_else(|| "nothing".to_owned(), |seq| seq.to_string());
        let behind = replica.behind.map_or_else(|| "an unknown number of".to_owned(), |n| n.to_string());
        let furthest = replicas.furthest_behind.as_ref() == Some(&replica.name);
        writeln!(
            out,
            "replica {} on {}: applied {position}, {behind} messages behind{}, last seen {}{}",
            replica.name,
            plain(&replica.host),
            if furthest { " (furthest)" } else { "" },
            ago(replica.last_seen, now()),
            if replica.silent { "; it says nothing any more" } else { "" }
        )?;
    }
    Ok(())
}
