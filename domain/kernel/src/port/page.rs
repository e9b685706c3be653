//! Lists, a page at a time.

use crate::Result;
use uuid::Uuid;

/// Items of one page while a whole list is read.
const ITEMS: u32 = 200;

/// A page of a list, newest first.
#[derive(Debug, Clone, Copy)]
pub struct Page {
    /// Continue after this identifier.
    pub after: Option<Uuid>,
    /// At most this many.
    pub limit: u32,
}

/// Every item of a list, page by page, where nothing may be left out; `id` is what the list continues after.
pub async fn whole<T>(id: impl Fn(&T) -> Uuid, list: impl AsyncFn(Page) -> Result<Vec<T>>) -> Result<Vec<T>> {
    let (mut out, mut after) = (Vec::new(), None);
    loop {
        let page = list(Page { after, limit: ITEMS }).await?;
        let Some(last) = page.last() else { return Ok(out) };
        after = Some(id(last));
        out.extend(page);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[tokio::test]
    async fn nothing_is_left_out_of_a_whole_list() {
        let ids: Vec<Uuid> = (0..2 * u128::from(ITEMS) + 1).rev().map(Uuid::from_u128).collect();
        let older = async |page: Page| {
            let left = ids.iter().filter(|id| page.after.is_none_or(|after| **id < after));
            Ok(left.take(page.limit as usize).copied().collect())
        };
        assert_eq!(whole(|id: &Uuid| *id, older).await.unwrap(), ids);
        let failing = async |page: Page| match page.after {
            None => Ok(vec![Uuid::nil()]),
            Some(_) => Err(Error::internal("the second page")),
        };
        assert!(whole(|id: &Uuid| *id, failing).await.is_err(), "half a list is none");
    }
}
