//! The server's own database, beside the server: to have in a moment what would take a day to come together.

use std::path::Path;

use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

/// Runs statements on the database in this data folder.
#[track_caller]
pub fn execute(data: &Path, statements: &'static str) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let file = data.join("control-plane.sqlite");
        let options = SqliteConnectOptions::new().filename(file);
        let mut database = options.connect().await.expect("the server's database");
        let run = sqlx::raw_sql(statements).execute(&mut database).await;
        run.expect("the statements run");
    });
}
