//! Whatever happens to the files: what is read is right, or it is an error.

use super::*;

#[tokio::test]
async fn a_database_that_is_gone_is_not_made_anew() {
    let folder = Folder::new();
    let store = folder.open();
    told(&store, 1, 1).await;
    drop(store);
    let log = std::fs::read(folder.log()).unwrap();
    std::fs::remove_file(folder.log()).unwrap();
    let refused = SqliteStore::open(folder.path()).unwrap_err();
    assert!(matches!(refused, OpenError::Damaged(_)), "{refused}");
    assert!(!folder.log().exists());
    std::fs::write(folder.log(), log).unwrap();
    folder.open().close().await.unwrap();
    std::fs::remove_file(folder.database()).unwrap();
    let refused = SqliteStore::open(folder.path()).unwrap_err();
    assert!(matches!(refused, OpenError::Damaged(_)), "{refused}");
    assert!(!folder.database().exists());
}
