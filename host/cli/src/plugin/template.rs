//! Files of a new project, made of templates.
//!
//! A template is a file of a project called `my-plugin` that has all hooks. Lines between `#if request` and `#end` (behind
//! whatever starts a comment in the language) are for projects with that hook, or with one of several: `#if
//! request|response`. The name is replaced in each way in which languages write it, and
//! `ITS_HOOKS` by the words for its hooks.

use super::args::Hook;

/// What a template is filled with.
pub(crate) struct Filling<'a> {
    pub(crate) name: &'a str,
    pub(crate) hooks: &'a [Hook],
}

impl Filling<'_> {
    /// The file that a template makes.
    pub(crate) fn fill(&self, template: &str) -> String {
        let mut text = String::new();
        let mut is_in = true;
        for line in template.lines() {
            match directive(line) {
                Some(Directive::If(hooks)) => is_in = hooks.split('|').any(|hook| self.has(hook)),
                Some(Directive::End) => is_in = true,
                None if is_in => {
                    text.push_str(line);
                    text.push('\n');
                }
                None => {}
            }
        }
        text.replace("my-plugin", self.name)
            .replace("my_plugin", &self.name.replace('-', "_"))
            .replace("MyPlugin", &camel_case(self.name))
            .replace("ITS_HOOKS", &self.words().join(", "))
    }

    fn has(&self, hook: &str) -> bool {
        self.words().contains(&hook)
    }

    fn words(&self) -> Vec<&'static str> {
        let word = |hook: &Hook| match hook {
            Hook::Request => "request",
            Hook::Response => "response",
            Hook::Message => "message",
            Hook::Completion => "completion",
        };
        self.hooks.iter().map(word).collect()
    }
}

enum Directive<'a> {
    If(&'a str),
    End,
}

fn directive(line: &str) -> Option<Directive<'_>> {
    let line = line.trim_start().trim_start_matches('/').trim_start();
    match line.strip_prefix("#if ") {
        Some(hooks) => Some(Directive::If(hooks.trim())),
        None => (line.trim_end() == "#end").then_some(Directive::End),
    }
}

fn camel_case(name: &str) -> String {
    let words = name.split('-').filter(|word| !word.is_empty());
    let upper = |word: &str| {
        let (first, rest) = word.split_at(1);
        first.to_ascii_uppercase() + rest
    };
    words.map(upper).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_other_hooks_are_left_out_and_names_replaced() {
        let template = "my-plugin my_plugin MyPlugin\n    //#if request|message\nboth\n    //#end\n#if response\nresponse\n#end\nall\n";
        let filling = Filling {
            name: "edge-2-greeter",
            hooks: &[Hook::Message],
        };
        assert_eq!(
            filling.fill(template),
            "edge-2-greeter edge_2_greeter Edge2Greeter\nboth\nall\n"
        );
    }
}
