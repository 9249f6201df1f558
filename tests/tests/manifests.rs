//! Promise: the deployment files of `examples/chrome-service` are valid, and run one browser, confined, whose ports are
//! reached by those who are meant to.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::{Value, json};
use witgate_tests::deployment::{self, Objects, list};
use witgate_tests::witgate::Setup;

/// The development overlay reads tokens from files that are in nobody's repository.
const TOKENS: [&str; 3] = ["cdp-token", "snapshot-token", "metrics-token"];

/// Every kustomization, rendered once for all tests.
static RENDERED: LazyLock<BTreeMap<String, Objects>> = LazyLock::new(|| {
    let files = copy_with_tokens();
    let folder = files.path().join("kubernetes");
    let overlays = fs::read_dir(folder.join("overlays")).expect("the folder is there");
    let overlays = overlays.map(|entry| entry.expect("the folder can be read").file_name());
    let names = overlays.map(|name| format!("overlays/{}", name.to_string_lossy()));
    names
        .chain(["restore".to_owned()])
        .map(|name| {
            let objects = deployment::kustomize(&folder.join(&name));
            (name, objects)
        })
        .collect()
});

static COMPOSE: LazyLock<Value> = LazyLock::new(deployment::compose);

#[track_caller]
fn rendered(kustomization: &str) -> &'static Objects {
    let found = RENDERED.get(kustomization);
    found.unwrap_or_else(|| panic!("there is no {kustomization}"))
}

fn copy_with_tokens() -> Setup {
    let mut setup = Setup::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let from = deployment::directory().join(&folder);
        for entry in fs::read_dir(from).expect("the folder is there") {
            let path = entry.expect("the folder can be read").path();
            let name = folder.join(path.file_name().expect("an entry has a name"));
            let kind = path.extension().and_then(OsStr::to_str);
            if path.is_dir() && name != Path::new("profile") {
                folders.push(name);
            } else if matches!(kind, Some("yaml" | "toml")) {
                let content = fs::read(path).expect("the file can be read");
                setup = setup.file(&name.to_string_lossy(), content);
            }
        }
    }
    TOKENS.iter().fold(setup, |setup, token| {
        let file = format!("kubernetes/overlays/development/{token}");
        setup.file(&file, "a-token-of-some-length")
    })
}

/// The pod of the browser.
fn browser(all: &Objects) -> &Value {
    &all.one("StatefulSet", "chrome")["spec"]["template"]["spec"]
}

/// A Kubernetes or compose quantity of seconds.
#[track_caller]
fn seconds(value: &Value) -> u64 {
    let text = value
        .as_str()
        .map(|text| text.trim_end_matches('s').parse().expect("seconds"));
    text.or_else(|| value.as_u64())
        .expect("a number of seconds")
}

/// What the configuration says for a key, as in `shutdown-grace = "20s"`.
#[track_caller]
fn configured(key: &str) -> String {
    let text = deployment::file("container/witgate.toml");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{key} = \"")));
    let value = line.and_then(|rest| rest.split('"').next());
    value.unwrap_or_else(|| panic!("no {key}")).to_owned()
}

#[test]
fn every_kustomization_renders_to_valid_objects_of_one_namespace() {
    assert!(RENDERED.len() >= 4, "{:?}", RENDERED.keys());

    for (kustomization, objects) in RENDERED.iter() {
        assert!(!objects.pods().is_empty(), "{kustomization} runs nothing");
        for object in objects.all() {
            let namespace = match object["kind"].as_str() {
                Some("Namespace") => &object["metadata"]["name"],
                _ => &object["metadata"]["namespace"],
            };
            assert_eq!(namespace, "chrome", "{kustomization}: {object}");
        }
    }
}

#[test]
fn every_component_is_part_of_an_overlay() {
    let overlays: String = ["development", "production", "everything"]
        .map(|name| deployment::file(&format!("kubernetes/overlays/{name}/kustomization.yaml")))
        .concat();
    let components = deployment::directory().join("kubernetes/components");

    for entry in fs::read_dir(components).expect("it is there") {
        let name = entry
            .expect("readable")
            .file_name()
            .to_string_lossy()
            .into_owned();
        assert!(
            overlays.contains(&format!("components/{name}")),
            "{name} is rendered nowhere"
        );
    }
}

#[test]
fn every_pod_is_confined() {
    let all = rendered("overlays/everything");
    let restore = rendered("restore");
    let pods: Vec<_> = all.pods().into_iter().chain(restore.pods()).collect();
    assert_eq!(pods.len(), 4);

    for (name, template) in pods {
        let pod = &template["spec"];
        let context = &pod["securityContext"];
        assert_eq!(context["runAsNonRoot"], true, "{name}");
        assert!(context["runAsUser"].as_u64() >= Some(10_000), "{name}");
        let seccomp = context["seccompProfile"]["type"].as_str();
        assert!(
            matches!(seccomp, Some("RuntimeDefault" | "Localhost")),
            "{name}"
        );
        for key in ["hostNetwork", "hostPID", "hostIPC"] {
            assert_eq!(pod[key], Value::Null, "{name}: {key}");
        }
        let needs_the_api = name == "chrome-harvest";
        assert_eq!(pod["automountServiceAccountToken"], needs_the_api, "{name}");
        for container in list(&pod["initContainers"])
            .iter()
            .chain(list(&pod["containers"]))
        {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(
                context["capabilities"],
                json!({ "drop": ["ALL"] }),
                "{name}"
            );
            for kind in ["requests", "limits"] {
                for resource in ["cpu", "memory"] {
                    assert!(
                        container["resources"][kind][resource].is_string(),
                        "{name}: {kind}.{resource}"
                    );
                }
            }
            let (_, tag) = container["image"]
                .as_str()
                .and_then(|image| image.rsplit_once(':'))
                .expect("a tag");
            assert!(
                !tag.contains('/') && tag != "latest",
                "{name}: {}",
                container["image"]
            );
        }
        for volume in list(&pod["volumes"]) {
            assert_eq!(volume["hostPath"], Value::Null, "{name}");
            assert!(
                volume["secret"].is_null() || name == "chrome",
                "{name} has the tokens"
            );
        }
    }
}

#[test]
fn there_is_one_browser_for_a_profile() {
    let all = rendered("overlays/everything");

    let set = all.one("StatefulSet", "chrome");
    assert_eq!(set["spec"]["replicas"], 1);
    for kind in [
        "HorizontalPodAutoscaler",
        "PodDisruptionBudget",
        "Deployment",
    ] {
        assert!(all.kind(kind).is_empty(), "{kind}");
    }
    for claim in all.kind("PersistentVolumeClaim") {
        assert_eq!(claim["spec"]["accessModes"], json!(["ReadWriteOnce"]));
        assert_eq!(claim["spec"]["storageClassName"], "encrypted");
    }
    // What else mounts the profile runs on the browser's node.
    let backup =
        &all.one("CronJob", "chrome-backup")["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    let near =
        &backup["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(near["topologyKey"], "kubernetes.io/hostname");
    assert_eq!(near["labelSelector"], set["spec"]["selector"]);
}

#[test]
fn the_probes_ask_for_real_health() {
    let all = rendered("overlays/everything");
    let container = &browser(all)["containers"][0];

    let path = |probe: &str| {
        assert_eq!(container[probe]["httpGet"]["port"], "admin", "{probe}");
        container[probe]["httpGet"]["path"].clone()
    };
    assert_eq!(path("startupProbe"), "/health");
    assert_eq!(path("readinessProbe"), "/ready");
    // A hung browser is restarted by witgate, not together with it.
    assert_eq!(path("livenessProbe"), "/health");
    let started = container["startupProbe"]["periodSeconds"]
        .as_u64()
        .expect("a number")
        * container["startupProbe"]["failureThreshold"]
            .as_u64()
            .expect("a number");
    assert!(started >= 120, "{started}");
    let asked = deployment::image_list("HEALTHCHECK").pop().expect("a URL");
    assert_eq!(asked, "http://127.0.0.1:9901/ready");
}

#[test]
fn the_ports_are_those_of_the_configuration() {
    let all = rendered("overlays/everything");
    let config = deployment::file("container/witgate.toml");
    let container = &browser(all)["containers"][0];

    for (name, port) in [("cdp", 9222), ("snapshots", 8088), ("admin", 9901)] {
        assert!(
            config.contains(&format!("bind = \"0.0.0.0:{port}\"")),
            "{port}"
        );
        let ports = list(&container["ports"]);
        assert!(
            ports
                .iter()
                .any(|entry| entry["name"] == name && entry["containerPort"] == port),
            "{name}"
        );
    }
    let service = list(&all.one("Service", "chrome")["spec"]["ports"]);
    let targets: Vec<_> = service.iter().map(|port| &port["targetPort"]).collect();
    assert_eq!(targets, ["cdp", "snapshots"]);
}

#[test]
fn a_stop_leaves_chromium_time_to_close() {
    let chromium = 10; // [chrome] stop-timeout, by default
    assert!(!deployment::file("container/witgate.toml").contains("stop-timeout"));
    let configured = |key| seconds(&Value::String(configured(key)));
    let needed = configured("drain-delay") + configured("shutdown-grace") + chromium;

    let pod = browser(rendered("overlays/everything"))["terminationGracePeriodSeconds"].clone();
    let compose = COMPOSE["services"]["chrome"]["stop_grace_period"].clone();

    assert!(seconds(&pod) > needed, "{pod}");
    assert!(seconds(&compose) > needed, "{compose}");
}

/// From where a port of the browser's pod is reached: the peers of all rules that open it.
fn sources<'a>(all: &'a Objects, port: &str) -> Vec<&'a Value> {
    let policies = all
        .kind("NetworkPolicy")
        .into_iter()
        .map(|policy| &policy["spec"]);
    let ours = policies.filter(|spec| {
        spec["podSelector"]["matchLabels"]["app.kubernetes.io/name"] == "chrome-service"
    });
    let rules = ours.flat_map(|spec| list(&spec["ingress"]));
    let open = rules.filter(|rule| {
        // Without ports a rule opens all of them.
        rule["ports"].is_null()
            || list(&rule["ports"])
                .iter()
                .any(|entry| entry["port"] == port)
    });
    open.flat_map(|rule| {
        assert!(!list(&rule["from"]).is_empty(), "open to everybody: {rule}");
        list(&rule["from"])
    })
    .collect()
}

#[test]
fn each_port_is_reached_by_those_who_are_meant_to() {
    let production = rendered("overlays/production");

    let nothing = &production.one("NetworkPolicy", "nothing-unless-allowed")["spec"];
    assert_eq!(nothing["podSelector"], json!({}));
    assert_eq!(nothing["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(
        (&nothing["ingress"], &nothing["egress"]),
        (&Value::Null, &Value::Null)
    );

    let namespace = |name: &str| json!({ "matchLabels": { "kubernetes.io/metadata.name": name } });
    let labelled = json!({ "namespaceSelector": { "matchLabels": { "chrome-service.witgate/cdp": "allowed" } } });
    assert_eq!(sources(production, "cdp"), [&labelled]);
    let ingress = json!({
        "namespaceSelector": namespace("traefik"),
        "podSelector": { "matchLabels": { "app.kubernetes.io/name": "traefik" } },
    });
    assert_eq!(sources(production, "snapshots"), [&ingress]);
    assert_eq!(
        sources(production, "admin"),
        [&json!({ "namespaceSelector": namespace("monitoring") })]
    );

    let backends: String = production
        .kind("Ingress")
        .iter()
        .map(|ingress| ingress["spec"].to_string())
        .collect();
    assert!(
        backends.contains("snapshots") && !backends.contains("cdp"),
        "{backends}"
    );
    for ingress in production.kind("Ingress") {
        assert!(
            !list(&ingress["spec"]["tls"]).is_empty(),
            "without TLS: {ingress}"
        );
    }
}

#[test]
fn the_browser_reaches_the_web_and_nothing_inside() {
    let all = rendered("overlays/everything");
    let egress = &all.one("NetworkPolicy", "chrome")["spec"]["egress"];

    let blocks: Vec<_> = list(egress)
        .iter()
        .flat_map(|rule| list(&rule["to"]))
        .filter(|peer| !peer["ipBlock"].is_null())
        .collect();
    assert_eq!(blocks.len(), 2, "IPv4 and IPv6");
    let left_out = blocks
        .iter()
        .map(|peer| peer["ipBlock"]["except"].to_string())
        .collect::<String>();
    for network in [
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "fc00::/7",
        "fe80::/10",
    ] {
        assert!(left_out.contains(network), "{network}");
    }
    for rule in list(egress) {
        assert!(
            !list(&rule["to"]).is_empty() && !list(&rule["ports"]).is_empty(),
            "{rule}"
        );
    }
}

/// witgate grants its plugins only directories that there are, and a new volume has none.
#[test]
fn a_new_volume_gets_the_directory_of_the_snapshots() {
    let directory = "/var/lib/witgate/snapshots";
    assert!(
        deployment::file("container/witgate.toml").contains(&format!("path = \"{directory}\""))
    );

    let made = &browser(rendered("overlays/production"))["initContainers"][0]["command"];
    assert_eq!(
        *made,
        json!(["install", "--directory", "--mode=0700", directory])
    );
    // A named volume of compose starts as a copy of the image's directory.
    let run = deployment::image()
        .into_iter()
        .rfind(|(name, _)| name == "RUN");
    let (_, run) = run.expect("the image makes directories");
    assert!(
        run.split_whitespace().any(|word| word == directory),
        "{run}"
    );
}

#[test]
fn the_tokens_of_the_configuration_come_from_the_secret() {
    let config = deployment::file("container/witgate.toml");
    let named: Vec<_> = config
        .split("${file:/run/secrets/witgate/")
        .skip(1)
        .filter_map(|rest| rest.split('}').next())
        .collect();
    assert_eq!(config.matches("${file:").count(), named.len());
    let of = |kind: &str| -> Vec<String> {
        let (objects, keys) = match kind {
            "Secret" => (rendered("overlays/development"), "data"),
            _ => (rendered("overlays/production"), "spec"),
        };
        let secret = objects.one(kind, "chrome-tokens");
        match keys {
            "data" => secret["data"]
                .as_object()
                .expect("a table")
                .keys()
                .cloned()
                .collect(),
            _ => list(&secret["spec"]["data"])
                .iter()
                .map(|entry| entry["secretKey"].as_str().expect("text").to_owned())
                .collect(),
        }
    };

    for kind in ["Secret", "ExternalSecret"] {
        for token in &named {
            assert!(
                of(kind).iter().any(|key| key == token),
                "{kind} has no {token}"
            );
        }
    }
    let production = rendered("overlays/production");
    assert_eq!(
        production.one("ExternalSecret", "chrome-tokens")["spec"]["target"]["name"],
        "chrome-tokens"
    );
    let pod = browser(production);
    let tokens = list(&pod["volumes"])
        .iter()
        .find(|volume| volume["name"] == "tokens")
        .expect("a volume");
    // Not for everybody in the pod to read: 0440 in octal.
    assert_eq!(
        tokens["secret"],
        json!({ "secretName": "chrome-tokens", "defaultMode": 0o440 })
    );
    let mounts = list(&pod["containers"][0]["volumeMounts"]);
    assert!(mounts.iter().any(|mount| {
        // A subPath is never updated when the secret is.
        mount["name"] == "tokens"
            && mount["mountPath"] == "/run/secrets/witgate"
            && mount["subPath"].is_null()
    }));
}

#[test]
fn what_the_configuration_writes_can_be_written() {
    let config = deployment::file("container/witgate.toml");
    let paths: Vec<_> = config
        .split(['"', '='])
        .filter(|part| part.starts_with("/var/"))
        .collect();
    assert!(paths.len() >= 4, "{paths:?}");
    let all = rendered("overlays/everything");
    let mounts = list(&browser(all)["containers"][0]["volumeMounts"]);
    let pod: Vec<_> = mounts
        .iter()
        .filter(|mount| mount["readOnly"] != true)
        .filter_map(|mount| mount["mountPath"].as_str())
        .collect();
    let service = COMPOSE["services"]["chrome"].clone();
    let service: Vec<_> = list(&service["volumes"])
        .iter()
        .chain(list(&service["tmpfs"]))
        .filter_map(|mount| mount.as_str())
        .filter(|mount| !mount.ends_with(":ro"))
        .flat_map(|mount| mount.split(':').map(str::to_owned))
        .collect();

    for path in paths {
        // Below the mount point, which may belong to another user and cannot be renamed.
        let below = |mount: &str| mount.starts_with('/') && path.starts_with(&format!("{mount}/"));
        assert!(pod.iter().any(|mount| below(mount)), "{path} in the pod");
        assert!(
            service.iter().any(|mount| below(mount)),
            "{path} in the compose service"
        );
    }
}

#[test]
fn the_configuration_is_one_file_and_valid() {
    let objects = rendered("overlays/production");
    let maps = objects.kind("ConfigMap");
    let [map] = maps.as_slice() else {
        panic!("{maps:?}")
    };
    let config = deployment::file("container/witgate.toml");
    assert_eq!(map["data"]["witgate.toml"], config.as_str());
    let mounted = list(&COMPOSE["services"]["chrome"]["volumes"]).to_vec();
    assert!(mounted.contains(&json!(
        "./container/witgate.toml:/etc/witgate/witgate.toml:ro"
    )));

    let here = config
        .replace("/run/secrets/witgate/", "secrets/")
        .replace("/var/lib/witgate/", "state/")
        .replace("/var/cache/witgate/", "cache/");
    let setup = Setup::new()
        .file("state/snapshots/keep", "")
        .file("witgate.toml", here);
    let setup = TOKENS.iter().fold(setup, |setup, token| {
        setup.file(&format!("secrets/{token}"), "a-token-of-some-length")
    });
    let ended = setup.run_to_end(&["check", "witgate.toml"]);

    assert!(ended.status.success(), "{}", ended.output());
}

#[test]
fn the_jobs_run_commands_that_there_are() {
    let mut commands: Vec<Vec<String>> = Vec::new();
    for objects in [rendered("overlays/everything"), rendered("restore")] {
        for (_, template) in objects.pods() {
            let container = &template["spec"]["containers"][0];
            let args = list(&container["args"])
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned);
            let args: Vec<_> = match container["image"].as_str() {
                // What kubectl runs in the browser's pod.
                Some(image) if image.contains("kubectl") => {
                    args.skip_while(|arg| arg != "witgate").skip(1).collect()
                }
                _ => args.collect(),
            };
            commands.push(if args.is_empty() {
                deployment::image_list("CMD")
            } else {
                args
            });
        }
    }
    let services = COMPOSE["services"].clone();
    commands.push(
        list(&services["backup"]["command"])
            .iter()
            .map(text)
            .collect(),
    );
    let restore = list(&services["restore"]["entrypoint"]).iter().map(text);
    commands.push(
        restore
            .skip(3)
            .chain(["/backups/ARCHIVE".to_owned()])
            .collect(),
    );

    assert_eq!(commands.len(), 6, "{commands:?}");
    for mut command in commands {
        // It reads everything before it helps, so that an unknown option is found.
        command.push("--help".into());
        let command: Vec<_> = command.iter().map(String::as_str).collect();
        let ended = Setup::new().run_to_end(&command);
        assert!(ended.status.success(), "{command:?}:\n{}", ended.output());
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}
