//! What an older backup knows nothing of must not be given again.
//!
//! A tunnel that was made after the backup is unknown to it; its number stands in the receipt of its bastion,
//! and its port in the settings of the vendor's programs. Both must not go to another tunnel. Where the
//! database that is replaced can still be read, it tells what was given. Where nobody can tell, numbers go on
//! from the clock, which is further than anybody has counted, however often one backup is restored; and every
//! port rests that somebody may have had. The unknown tunnel itself stays out: its key and its token are in
//! no table.
//!
//! This is for a database that is one file: a server of PostgreSQL has its own ways to be backed up.

use jiff::Timestamp;

use super::sql::Port;
use super::{Actor, OperatorId, PortRange, Result, Store, Writing, json, now};

/// Seconds from 1970 to 2026. Numbers that go on from the clock are counted from there, to be short.
const NUMBERS_FROM: i64 = 1_767_225_600;

/// The tables whose numbers are known elsewhere: to bastions, to programs of the vendor, to open pages, to later
/// backups.
const NUMBERED: [&str; 4] = ["data_sources", "tunnels", "events", "operators"];

/// What a database has given.
#[derive(Debug)]
pub struct Given {
    /// The highest number of each table.
    numbers: Vec<(String, i64)>,
    /// Ports, and since when each rests, if it does.
    ports: Vec<(u16, Option<i64>)>,
    /// Ports that others may have had before.
    former_ports: Vec<(u16, Option<i64>)>,
    /// The hashes of API tokens that were revoked, and when.
    revoked: Vec<(Vec<u8>, i64)>,
    /// The operators that were not removed, and since when each is disabled, if it is.
    operators: Vec<(OperatorId, Option<i64>)>,
}

impl Given {
    /// Whether this is what came of that, and not something older or else.
    pub fn continues(&self, other: &Given) -> bool {
        other.numbers.iter().all(|(table, number)| {
            let own = self.numbers.iter().find(|(own, _)| own == table);
            own.is_some_and(|(_, own)| own >= number)
        })
    }
}

impl Store {
    /// What this database has given.
    pub async fn given(&self) -> Result<Given> {
        Ok(Given {
            numbers: self
                .readers
                .sql(
                    "SELECT name, seq FROM sqlite_sequence
                 WHERE name IN (SELECT value FROM json_each($1))",
                )
                .bind(json(&NUMBERED)?)
                .all()
                .await?,
            ports: numbered(
                self.readers
                    .sql(
                        "SELECT remote_port, removed_at FROM tunnels WHERE remote_port IS NOT NULL",
                    )
                    .all()
                    .await?,
            ),
            former_ports: numbered(
                self.readers
                    .sql("SELECT port, released_at FROM former_ports")
                    .all()
                    .await?,
            ),
            revoked: self
                .readers
                .sql("SELECT hash, revoked_at FROM tokens WHERE revoked_at IS NOT NULL")
                .all()
                .await?,
            operators: self
                .readers
                .sql("SELECT id, disabled_at FROM operators")
                .all()
                .await?,
        })
    }

    /// The mark of the last run with this database.
    pub async fn last_run(&self) -> Result<Option<String>> {
        let mark = self
            .readers
            .sql("SELECT mark FROM last_run")
            .optional_value()
            .await?;
        Ok(mark)
    }

    /// Marks a new run.
    pub async fn begin_run(&self, mark: &str) -> Result<()> {
        self.writer
            .sql("INSERT INTO last_run VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET mark = $1")
            .bind(mark)
            .execute()
            .await?;
        Ok(())
    }

    /// Takes up its work after a restore: gives nothing that `given` says was given, or where that is not known,
    /// nothing that may have been given. `unused` are ports of which the operator says that nobody ever had
    /// them. Whoever was signed in has to sign in again.
    pub async fn begin_after_restore(
        &self,
        made_at: Timestamp,
        given: Option<&Given>,
        unused: Option<PortRange>,
    ) -> Result<()> {
        let mut tx = self.write().await?;
        let unused = unused.map(PortRange::ends);
        let may_have_been_given = |port: &u16| match unused {
            Some((first, last)) => !(first..=last).contains(port),
            None => true,
        };
        match given {
            Some(given) => {
                tx.take_over(given, may_have_been_given).await?;
                tx.keep_out(&given.operators).await?;
            }
            None => tx.leave_room(may_have_been_given).await?,
        }
        for table in ["browser_sessions", "login_links", "last_run"] {
            tx.sql(format!("DELETE FROM {table}")).execute().await?;
        }
        let subject = format!("the backup of {made_at:.0}");
        tx.add_audit(&Actor::CommandLine, "restored", &subject)
            .await?;
        tx.commit().await
    }
}

impl Writing {
    /// Whoever was removed or disabled since the backup stays out.
    async fn keep_out(&mut self, known: &[(OperatorId, Option<i64>)]) -> Result<()> {
        let ids: Vec<OperatorId> = self.sql("SELECT id FROM operators").values().await?;
        for id in ids {
            match known.iter().find(|(known, _)| *known == id) {
                None => self.remove_operator(id).await?,
                Some((_, Some(_))) => self.disable_operator(id).await?,
                Some((_, None)) => {}
            }
        }
        Ok(())
    }

    async fn take_over(
        &mut self,
        given: &Given,
        may_have_been_given: impl Fn(&u16) -> bool,
    ) -> Result<()> {
        for (table, number) in &given.numbers {
            self.raise(table, *number).await?;
        }
        let former_ports = given.former_ports.iter().copied();
        let former_ports: Vec<_> = former_ports
            .filter(|(port, _)| may_have_been_given(port))
            .collect();
        self.rest(&[&given.ports[..], &former_ports].concat())
            .await?;
        for (hash, at) in &given.revoked {
            self.sql("UPDATE tokens SET revoked_at = $1 WHERE hash = $2 AND revoked_at IS NULL")
                .bind(at)
                .bind(hash)
                .execute()
                .await?;
        }
        Ok(())
    }

    async fn leave_room(&mut self, may_have_been_given: impl Fn(&u16) -> bool) -> Result<()> {
        for table in NUMBERED {
            self.raise(table, now() / 1000 - NUMBERS_FROM).await?;
        }
        let ports = (1..=u16::MAX).filter(may_have_been_given);
        let ports: Vec<_> = ports.map(|port| (port, None)).collect();
        self.rest(&ports).await
    }

    /// From here on the table's numbers are higher than this one.
    async fn raise(&mut self, table: &str, number: i64) -> Result<()> {
        let raised = self
            .sql("UPDATE sqlite_sequence SET seq = max(seq, $1) WHERE name = $2")
            .bind(number)
            .bind(table)
            .execute()
            .await?;
        if raised == 0 {
            self.sql("INSERT INTO sqlite_sequence (name, seq) VALUES ($1, $2)")
                .bind(table)
                .bind(number)
                .execute()
                .await?;
        }
        Ok(())
    }

    /// These ports rest since then, or from now on.
    async fn rest(&mut self, ports: &[(u16, Option<i64>)]) -> Result<()> {
        self.sql(
            "INSERT INTO former_ports (region, port, released_at)
             SELECT 'default', value ->> 0, max(coalesce(value ->> 1, $2)) FROM json_each($1) WHERE true GROUP BY 2
             ON CONFLICT (region, port) DO UPDATE SET released_at = max(released_at, excluded.released_at)",
        )
        .bind(json(ports)?)
        .bind(now())
        .execute()
        .await?;
        Ok(())
    }
}

fn numbered(ports: Vec<(Port, Option<i64>)>) -> Vec<(u16, Option<i64>)> {
    let ports = ports.into_iter();
    ports.map(|(Port(port), since)| (port, since)).collect()
}
