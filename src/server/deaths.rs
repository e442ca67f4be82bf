//! Where a test has the server killed: just before and just after whatever it keeps.
//!
//! What is kept passes through here: each transaction, each statement that is one by itself, each change of the schema, and
//! each file that takes another's place. A build for tests looks for a variable with the name of a file, in which it
//! writes down each moment that it comes to for the first time, and then kills itself. So whoever starts it again and
//! again with the same file sees it die once at each of them. In what is released, nothing of this exists.

use std::io;

pub use moments::{around, around_file, migrate};

#[cfg(debug_assertions)]
mod moments {
    use std::fs::{self, OpenOptions};
    use std::io::Write as _;
    use std::panic::Location;
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    use sqlx::migrate::{AppliedMigration, Migrate, MigrateError, Migration, Migrator};

    use super::io;

    /// The file with the moments at which it has died.
    const VARIABLE: &str = "HOLISTICS_TUNNEL_TEST_DEATHS";

    /// Keeps something that may fail, at this place of the code.
    #[track_caller]
    pub fn around<T, E>(
        keeping: impl Future<Output = Result<T, E>>,
    ) -> impl Future<Output = Result<T, E>> {
        let place = Location::caller();
        async move {
            reach("before", place);
            let kept = keeping.await?;
            reach("after", place);
            Ok(kept)
        }
    }

    /// The same with a file.
    #[track_caller]
    pub fn around_file<T>(keep: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let place = Location::caller();
        reach("before", place);
        let kept = keep()?;
        reach("after", place);
        Ok(kept)
    }

    /// Brings the schema up to date.
    pub async fn migrate<C: Migrate + Send>(
        migrations: &Migrator,
        connection: &mut C,
    ) -> Result<(), MigrateError> {
        let connection = &mut Watched(connection);
        migrations.run_direct(None, connection, false).await
    }

    fn reach(when: &str, place: &Location<'_>) {
        reach_moment(&format!("{when} {}:{}", place.file(), place.line()));
    }

    fn reach_moment(moment: &str) {
        // Of several threads one dies.
        static ONE: Mutex<()> = Mutex::new(());
        let Some(deaths) = std::env::var_os(VARIABLE) else {
            return;
        };
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let known = fs::read_to_string(&deaths).unwrap_or_default();
        if known.lines().any(|line| line == moment) {
            return;
        }
        let written = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&deaths)
            .and_then(|mut file| writeln!(file, "{moment}"));
        // One that it cannot write down would be its last one for ever.
        if let Err(error) = written {
            tracing::error!("cannot write {}: {error}", deaths.display());
            return;
        }
        let itself = rustix::process::getpid();
        let _ = rustix::process::kill_process(itself, rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }

    struct Watched<'c, C>(&'c mut C);

    /// What a [`Migrate`] gives back.
    type Answer<'e, T> =
        std::pin::Pin<Box<dyn Future<Output = Result<T, MigrateError>> + Send + 'e>>;

    impl<C: Migrate> Migrate for Watched<'_, C> {
        fn create_schema_if_not_exists<'e>(&'e mut self, name: &'e str) -> Answer<'e, ()> {
            self.0.create_schema_if_not_exists(name)
        }

        fn ensure_migrations_table<'e>(&'e mut self, table: &'e str) -> Answer<'e, ()> {
            self.0.ensure_migrations_table(table)
        }

        fn dirty_version<'e>(&'e mut self, table: &'e str) -> Answer<'e, Option<i64>> {
            self.0.dirty_version(table)
        }

        fn list_applied_migrations<'e>(
            &'e mut self,
            table: &'e str,
        ) -> Answer<'e, Vec<AppliedMigration>> {
            self.0.list_applied_migrations(table)
        }

        fn lock(&mut self) -> Answer<'_, ()> {
            self.0.lock()
        }

        fn unlock(&mut self) -> Answer<'_, ()> {
            self.0.unlock()
        }

        fn apply<'e>(
            &'e mut self,
            table: &'e str,
            migration: &'e Migration,
        ) -> Answer<'e, Duration> {
            reach_moment(&format!("before change {}", migration.version));
            let applying = self.0.apply(table, migration);
            Box::pin(async move {
                let taken = applying.await?;
                reach_moment(&format!("after change {}", migration.version));
                Ok(taken)
            })
        }

        fn revert<'e>(
            &'e mut self,
            table: &'e str,
            migration: &'e Migration,
        ) -> Answer<'e, Duration> {
            self.0.revert(table, migration)
        }

        fn skip<'e>(&'e mut self, table: &'e str, migration: &'e Migration) -> Answer<'e, ()> {
            self.0.skip(table, migration)
        }
    }
}

#[cfg(not(debug_assertions))]
mod moments {
    use sqlx::migrate::{Migrate, MigrateError, Migrator};

    use super::io;

    pub fn around<T, E>(
        keeping: impl Future<Output = Result<T, E>>,
    ) -> impl Future<Output = Result<T, E>> {
        keeping
    }

    pub fn around_file<T>(keep: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        keep()
    }

    pub async fn migrate<C: Migrate + Send>(
        migrations: &Migrator,
        connection: &mut C,
    ) -> Result<(), MigrateError> {
        migrations.run_direct(None, connection, false).await
    }
}
