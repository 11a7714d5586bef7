//! containerd with its CRI plugin, and a client of the few calls that a kubelet makes: gRPC by `h2`, messages by hand.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use tokio::net::UnixStream;

use super::{PROGRAMS, TestEnv, sh, systemd, wait_for};

/// The image of sandboxes and containers: busybox, which sleeps.
const IMAGE: &str = "localhost/busybox:1";
const UNIT: &str = "cri-test.service";
const ROOT: &str = "/var/lib/cri-test";
const SOCKET: &str = "/run/cri-test/containerd.sock";
const NRI_SOCKET: &str = "/run/nri/nri.sock";

/// Packs the root file system as an OCI image; the digests name the files.
const PACK: &str = r#"set -e; cd $1; mkdir -p blobs/sha256
tar -C /srv/busybox -cf layer .
add() { sum=$(sha256sum $1 | cut -d' ' -f1); size=$(stat -c %s $1); mv $1 blobs/sha256/$sum; }
add layer; layer=$sum layer_size=$size
printf '{"architecture":"amd64","os":"linux","config":{"Entrypoint":["/bin/sleep","100000"],"Env":["PATH=/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' $layer >config
add config
type=application/vnd.oci.image
printf '{"schemaVersion":2,"mediaType":"%s.manifest.v1+json","config":{"mediaType":"%s.config.v1+json","digest":"sha256:%s","size":%s},"layers":[{"mediaType":"%s.layer.v1.tar","digest":"sha256:%s","size":%s}]}' $type $type $sum $size $type $layer $layer_size >manifest
add manifest
printf '{"schemaVersion":2,"manifests":[{"mediaType":"%s.manifest.v1+json","digest":"sha256:%s","size":%s,"annotations":{"io.containerd.image.name":"%s"}}]}' $type $sum $size $2 >index.json
echo '{"imageLayoutVersion":"1.0.0"}' >oci-layout
tar -cf image.tar oci-layout index.json blobs"#;

/// A message of protocol buffers.
#[derive(Default, Clone)]
pub struct Proto(Vec<u8>);

impl Proto {
    fn varint(mut self, mut value: u64) -> Self {
        while value > 127 {
            self.0.push(value as u8 & 127 | 128);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    fn number(self, field: u64, value: u64) -> Self {
        self.varint(field << 3).varint(value)
    }

    fn bytes(self, field: u64, value: &[u8]) -> Self {
        let mut message = self.varint(field << 3 | 2).varint(value.len() as u64);
        message.0.extend(value);
        message
    }

    fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    fn message(self, field: u64, value: &Proto) -> Self {
        self.bytes(field, &value.0)
    }
}

fn new() -> Proto {
    Proto::default()
}

/// A pod, as the kubelet describes it in each call.
pub struct Pod {
    /// The id of its sandbox.
    pub id: String,
    config: Proto,
}

/// containerd with the systemd cgroup driver, runc and NRI.
pub struct Containerd;

impl Containerd {
    /// Starts it with the image imported, and waits for its NRI socket. Stopped at the end, with all containers.
    pub fn start(env: &mut TestEnv) -> Containerd {
        sh(&format!(
            "rm -rf {ROOT}; mkdir -p {ROOT}/image; sh -c '{}' pack {ROOT}/image {IMAGE}",
            quoted(PACK)
        ));
        let cri = "[plugins.\"io.containerd.grpc.v1.cri\"";
        let config = format!(
            "version = 2\nroot = \"{ROOT}/root\"\nstate = \"/run/cri-test/state\"\n[grpc]\n  address = \"{SOCKET}\"\n\
             {cri}]\n  sandbox_image = \"{IMAGE}\"\n  disable_apparmor = true\n  restrict_oom_score_adj = true\n\
             {cri}.containerd]\n  snapshotter = \"native\"\n\
             {cri}.containerd.runtimes.runc]\n  runtime_type = \"io.containerd.runc.v2\"\n\
             {cri}.containerd.runtimes.runc.options]\n  SystemdCgroup = true\n\
             [plugins.\"io.containerd.nri.v1.nri\"]\n  disable = false\n"
        );
        fs::write(Path::new(ROOT).join("config.toml"), config).unwrap();
        let unit = format!(
            "[Service]\nType=notify\nExecStart=/usr/bin/containerd --config {ROOT}/config.toml\nDelegate=yes\n\
             KillMode=process\nOOMScoreAdjust=-500\n"
        );
        env.unit(UNIT, &unit).reload();
        // Shims are in the cgroup of containerd's unit.
        env.at_end(format!("for cgroup in kubepods.slice system.slice/{UNIT}; do \
            echo 1 >/sys/fs/cgroup/$cgroup/cgroup.kill; done; systemctl stop {UNIT} kubepods.slice; \
            grep -o '/[^ ]*cri-test[^ ]*' /proc/mounts | sort -r | xargs -r umount -l; rm -rf {ROOT} /run/cri-test {NRI_SOCKET}"));
        systemd::start(UNIT);
        sh(&format!("ctr -a {SOCKET} -n k8s.io images import --snapshotter native {ROOT}/image/image.tar"));
        let containerd = Containerd;
        containerd.wait();
        containerd
    }

    /// Waits until the plugin is connected.
    pub fn wait(&self) {
        wait_for("memcg-bpf-nri to connect to containerd", || {
            sh("systemctl show -P StatusText memcg-bpf-nri")
                .starts_with("Connected to containerd")
                .then_some(())
        });
    }

    /// Kills containerd, whose containers go on, and starts it again.
    pub fn kill_and_start(&self) {
        sh(&format!(
            "systemctl kill -s KILL --kill-whom=main {UNIT}; systemctl reset-failed {UNIT}; systemctl start {UNIT}"
        ));
    }

    /// Runs the sandbox of a pod with these annotations.
    pub fn pod(&self, name: &str, annotations: &[(&str, &str)]) -> Pod {
        // Of the host: network and IPC need no setup then. Processes of the container's own.
        let namespaces = new().number(1, 2).number(2, 1).number(3, 2);
        let linux =
            new().text(1, &format!("kubepods-pod{name}.slice")).message(2, &new().message(1, &namespaces));
        let mut config = new()
            .message(1, &new().text(1, name).text(2, &format!("uid-{name}")).text(3, "default"))
            .text(3, &format!("{ROOT}/logs"))
            .message(8, &linux);
        for (key, value) in annotations {
            config = config.message(7, &new().text(1, key).text(2, value));
        }
        let id = self.call("RunPodSandbox", &new().message(1, &config)).unwrap();
        Pod { id, config }
    }

    /// Creates the container `app` of a pod, with the directory of the test as /out.
    pub fn create(&self, env: &TestEnv, pod: &Pod, script: &str) -> Result<String, String> {
        let mount = |path: &str, host: &str| new().text(1, path).text(2, host);
        let namespaces = new().number(1, 2).number(2, 1).number(3, 2);
        let linux = new().message(2, &new().message(3, &namespaces));
        let config = new()
            .message(1, &new().text(1, "app"))
            .message(2, &new().text(1, IMAGE))
            .text(3, "/bin/sh")
            .text(3, "-c")
            .text(3, script)
            .message(7, &mount("/out", &env.dir.display().to_string()))
            .message(7, &mount(PROGRAMS, PROGRAMS))
            .text(11, "app.log")
            .message(15, &linux);
        self.call("CreateContainer", &new().text(1, &pod.id).message(2, &config).message(3, &pod.config))
    }

    /// Starts a container.
    pub fn start_container(&self, id: &str) -> Result<(), String> {
        self.call("StartContainer", &new().text(1, id)).map(drop)
    }

    /// Creates and starts a container. Its id.
    pub fn run(&self, env: &TestEnv, pod: &Pod, script: &str) -> String {
        let id = self.create(env, pod, script).unwrap();
        self.start_container(&id).unwrap();
        id
    }

    /// Stops the sandbox of a pod with all its containers.
    pub fn stop_pod(&self, pod: &Pod) {
        self.call("StopPodSandbox", &new().text(1, &pod.id)).unwrap();
    }

    /// Calls a method of the runtime. The first field of the answer, or the message of the error.
    fn call(&self, method: &str, request: &Proto) -> Result<String, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(unary(method, &request.0)).unwrap()
    }
}

fn quoted(script: &str) -> String {
    script.replace('\'', "'\\''")
}

/// One call: a request and a response with a header of five bytes each, and a status in the trailers.
async fn unary(method: &str, request: &[u8]) -> Result<Result<String, String>, h2::Error> {
    let stream = UnixStream::connect(SOCKET).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    let head = http::Request::post(format!("http://localhost/runtime.v1.RuntimeService/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (response, mut body) = client.send_request(head, false)?;
    let mut frame = vec![0];
    frame.extend((request.len() as u32).to_be_bytes());
    frame.extend(request);
    body.send_data(Bytes::from(frame), true)?;
    let response = response.await?;
    let status = |headers: &http::HeaderMap| {
        let text =
            |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        text("grpc-status").filter(|code| code != "0").map(|code| text("grpc-message").unwrap_or(code))
    };
    if let Some(error) = status(response.headers()) {
        return Ok(Err(error));
    }
    let mut body = response.into_body();
    let mut answer = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        answer.extend_from_slice(&data);
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    // The header, then field 1, a string of less than 128 bytes, or nothing.
    Ok(match status(&trailers) {
        Some(error) => Err(error),
        None => Ok(answer.get(7..).map(|id| String::from_utf8_lossy(id).into_owned()).unwrap_or_default()),
    })
}
