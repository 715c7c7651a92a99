//! `zhuji storage sync`.

use std::process::ExitCode;

use super::cp::target;
use super::transfer::Order;
use super::{nothing_at, selected, within_itself};
use crate::args::Sync;
use crate::failure::Failure;
use crate::location::Access;

pub(crate) async fn sync(args: &Sync) -> Result<ExitCode, Failure> {
    if args.from.overlaps(&args.to) {
        return Err(within_itself(&args.from, &args.to));
    }
    let from = args.from.locate(Access::Read)?.open().await?;
    let to = args.to.locate(Access::Fill)?;
    let entries = selected(&from, true).await?;
    // Also what keeps a mistyped source from emptying the target.
    if entries.is_empty() {
        return Err(nothing_at(&args.from, true));
    }
    let entries = entries
        .into_iter()
        .map(|entry| {
            let target = target(&from.key, &to.key, &entry.key, true);
            (entry, target)
        })
        .collect();
    Order {
        from: &from,
        to: &args.to,
        entries,
        compare: true,
        delete: args.delete,
        how: &args.how,
    }
    .carry_out()
    .await
}
