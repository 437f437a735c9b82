//! The keys and values of one conversation.
//!
//! It grows with the conversation and not before: a slot that is granted
//! 100,000 positions costs what it has used of them.

/// Keys and values of every layer and head, position by position.
#[derive(Debug)]
pub(crate) struct Cache {
    /// Layer by layer, head by head.
    heads: Vec<Head>,
    heads_per_layer: usize,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Head {
    pub(super) keys: Vec<f32>,
    pub(super) values: Vec<f32>,
}

impl Cache {
    pub(crate) fn new(layers: usize, heads_per_layer: usize) -> Self {
        Self {
            heads: vec![Head::default(); layers * heads_per_layer],
            heads_per_layer,
        }
    }

    /// Adds one position to a layer: the keys and values of all heads.
    pub(super) fn push(&mut self, layer: usize, keys: &[f32], values: &[f32]) {
        let width = keys.len() / self.heads_per_layer;
        let from = layer * self.heads_per_layer;
        let heads = &mut self.heads[from..from + self.heads_per_layer];
        for ((head, key), value) in heads
            .iter_mut()
            .zip(keys.chunks_exact(width))
            .zip(values.chunks_exact(width))
        {
            head.keys.extend_from_slice(key);
            head.values.extend_from_slice(value);
        }
    }

    pub(super) fn head(&self, layer: usize, head: usize) -> &Head {
        &self.heads[layer * self.heads_per_layer + head]
    }
}
