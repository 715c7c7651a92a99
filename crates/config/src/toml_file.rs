use crate::{Problem, layer::Layer};

pub(crate) fn parse(_text: &str, _layer: &mut Layer, _problems: &mut Vec<Problem>) {}
