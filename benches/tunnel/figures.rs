//! What several turns gave, in one word.

/// The values of all turns.
#[derive(Clone, Default)]
pub struct Figures(pub Vec<f64>);

impl Figures {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub fn median(&self) -> f64 {
        self.percentile(0.5)
    }

    pub fn least(&self) -> f64 {
        self.percentile(0.0)
    }

    pub fn most(&self) -> f64 {
        self.percentile(1.0)
    }

    /// The value below which this part of all values lies.
    pub fn percentile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1) as f64;
        let at = (last * part).round() as usize;
        sorted.get(at).copied().unwrap_or(f64::NAN)
    }

    /// Turn by turn, as a multiple of the other's: what slows a whole turn down slows both.
    pub fn over(&self, base: &Figures) -> Figures {
        Figures(self.0.iter().zip(&base.0).map(|(a, b)| a / b).collect())
    }
}
