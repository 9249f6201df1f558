/// Makes a component of a plugin: `export!(MyPlugin: request)`, `export!(MyPlugin: request, response)`, … with the hooks
/// `request`, `response`, `message` and `completion`.
///
/// Once per crate, whose `crate-type` holds `cdylib`. The named hooks are what the host calls, so a hook trait that is
/// implemented and not named costs nothing and does nothing; one that is named and not implemented does not compile. Off
/// `wasm32` nothing is exported, so that `cargo check` and `cargo test` work for the host's target too.
#[macro_export]
macro_rules! export {
    ($plugin:ty: $($hook:ident),+ $(,)?) => {
        const _: () = {
            impl $crate::__private::Instance for $plugin {
                fn with_slot<R>(f: impl FnOnce(&::core::cell::OnceCell<Self>) -> R) -> R {
                    ::std::thread_local! {
                        static SLOT: ::core::cell::OnceCell<$plugin> = const { ::core::cell::OnceCell::new() };
                    }
                    SLOT.with(f)
                }
            }

            #[cfg(target_arch = "wasm32")]
            type Exported = $crate::__private::Component<$plugin>;
            $crate::__private::export_interface!(lifecycle: Exported);
            $crate::__private::export_interface!(transform: Exported);
            $($crate::__private::export_hook!($hook: $plugin, Exported);)+
        };
    };
}

/// Exports the functions of one interface.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_interface {
    (lifecycle: $exported:ident) => {
        #[cfg(target_arch = "wasm32")]
        $crate::__private::lifecycle::__export_witgate_plugin_lifecycle_0_1_0_cabi!(
            $exported with_types_in $crate::__private::lifecycle
        );
    };
    (transform: $exported:ident) => {
        #[cfg(target_arch = "wasm32")]
        $crate::__private::transform::__export_witgate_plugin_transform_0_1_0_cabi!(
            $exported with_types_in $crate::__private::transform
        );
    };
    (request_hook: $exported:ident) => {
        #[cfg(target_arch = "wasm32")]
        $crate::__private::request_hook::__export_witgate_plugin_request_hook_0_1_0_cabi!(
            $exported with_types_in $crate::__private::request_hook
        );
    };
    (response_hook: $exported:ident) => {
        #[cfg(target_arch = "wasm32")]
        $crate::__private::response_hook::__export_witgate_plugin_response_hook_0_1_0_cabi!(
            $exported with_types_in $crate::__private::response_hook
        );
    };
    (message_hook: $exported:ident) => {
        #[cfg(target_arch = "wasm32")]
        $crate::__private::messages::__export_witgate_plugin_messages_0_1_0_cabi!(
            $exported with_types_in $crate::__private::messages
        );
        #[cfg(target_arch = "wasm32")]
        $crate::__private::message_hook::__export_witgate_plugin_message_hook_0_1_0_cabi!(
            $exported with_types_in $crate::__private::message_hook
        );
    };
    (completion_hook: $exported:ident) => {
        #[cfg(target_arch = "wasm32")]
        $crate::__private::completion_hook::__export_witgate_plugin_completion_hook_0_1_0_cabi!(
            $exported with_types_in $crate::__private::completion_hook
        );
    };
}

/// Exports one hook: checks the trait, exports the interface, and places the component type.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_hook {
    (request: $plugin:ty, $exported:ident) => {
        const _: fn() = $crate::__private::is_request_hook::<$plugin>;
        $crate::__private::export_interface!(request_hook: $exported);
        $crate::__private::component_type!(REQUEST "component-type:witgate:request");
    };
    (response: $plugin:ty, $exported:ident) => {
        const _: fn() = $crate::__private::is_response_hook::<$plugin>;
        $crate::__private::export_interface!(response_hook: $exported);
        $crate::__private::component_type!(RESPONSE "component-type:witgate:response");
    };
    (completion: $plugin:ty, $exported:ident) => {
        const _: fn() = $crate::__private::is_completion_hook::<$plugin>;
        $crate::__private::export_interface!(completion_hook: $exported);
        $crate::__private::component_type!(COMPLETION "component-type:witgate:completion");
    };
    (message: $plugin:ty, $exported:ident) => {
        const _: fn() = $crate::__private::is_message_hook::<$plugin>;
        $crate::__private::export_interface!(message_hook: $exported);
        $crate::__private::component_type!(MESSAGE "component-type:witgate:message");
    };
    ($other:ident: $plugin:ty, $exported:ident) => {
        ::core::compile_error!(::core::concat!(
            "there is no hook `", ::core::stringify!($other), "`; there are `request`, `response`, `message` and `completion`"
        ));
    };
}

/// Places the custom section from which the encoder learns what the component exports.
#[doc(hidden)]
#[macro_export]
macro_rules! __component_type {
    ($hook:ident $section:literal) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            #[unsafe(link_section = $section)]
            static COMPONENT_TYPE: [u8; $crate::__private::component_type::$hook.len()] =
                *$crate::__private::component_type::$hook;
        };
    };
}
