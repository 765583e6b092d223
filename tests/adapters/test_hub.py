"""Adapters to and from a hub: a server on this machine that speaks what huggingface_hub asks for.

The client is the real one, with its uploads by LFS; its other way (xet) is a protocol of its own, and switched off.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest
import torch
import yaml
from safetensors.torch import load_file

from stack_platform.adapters import (
    AutoPeftModel,
    AutoPeftModelForCausalLM,
    LoraConfig,
    PeftConfig,
    PeftModel,
    get_peft_model,
)
from stack_platform.errors import AdapterError

TOKEN = "hf_test"
pytestmark = pytest.mark.filterwarnings("ignore")


class Hub:
    """Repositories by name, their commits and branches, and what was asked."""

    def __init__(self):
        self.repos, self.private, self.blobs, self.asked = {}, set(), {}, []

    def create(self, name, private=False):
        self.repos[name] = {"commits": {}, "refs": {}, "messages": []}
        self.private |= {name} if private else set()
        self.commit(name, "main", {}, "initial commit")

    def commit(self, name, branch, changes, message):
        repo = self.repos[name]
        files = {**repo["commits"].get(repo["refs"].get(branch), {}), **changes}
        sha = hashlib.sha1(f"{name} {branch} {len(repo['messages'])}".encode()).hexdigest()
        repo["commits"][sha] = files
        repo["refs"][branch] = sha
        repo["messages"].append(message)
        return sha

    def files(self, name, revision="main"):
        repo = self.repos[name]
        return repo["commits"][repo["refs"].get(revision, revision)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    routes = (
        ("POST", r"/api/repos/create", "make"),
        ("POST", r"/api/validate-yaml", "check_card"),
        ("POST", r"/api/models/(.+)/branch/(.+)", "branch"),
        ("POST", r"/api/models/(.+)/preupload/(.+)", "modes"),
        ("POST", r"/api/models/(.+)/commit/(.+)", "commit"),
        ("POST", r"/(.+)\.git/info/lfs/objects/batch", "batch"),
        ("PUT", r"/lfs/(\w+)", "upload"),
        ("GET", r"/api/models/(.+)/revision/(.+)", "info"),
        ("GET", r"/api/models/(.+)/tree/(\w+)", "tree"),
        ("HEAD", r"/(.+)/resolve/(\w+)/(.+)", "head"),
        ("GET", r"/(.+)/resolve/(\w+)/(.+)", "file"),
        ("GET", r"/api/models/([^/]+(?:/[^/]+)?)", "info"),
    )

    def handle_any(self):
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        path = unquote(urlsplit(self.path).path)
        self.server.hub.asked.append((self.command, path))
        for method, pattern, name in self.routes:
            match = re.fullmatch(pattern, path)
            if method == self.command and match:
                if self.allowed(name, match.groups()):
                    getattr(self, name)(*match.groups())
                return
        self.answer(404, {})

    def __getattr__(self, name):  # what the server calls for each method
        if name.startswith("do_"):
            return self.handle_any
        raise AttributeError(name)

    def allowed(self, name, groups):
        hub, signed = self.server.hub, self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if self.command == "POST" and not signed:
            return self.answer(401, {"error": "Invalid credentials"})
        if name in ("info", "tree", "head", "file", "modes", "commit", "branch"):
            if groups[0] not in hub.repos or (groups[0] in hub.private and not signed):
                return self.answer(404 if signed else 401, {}, {"X-Error-Code": "RepoNotFound"})
            if name in ("info", "modes", "commit") and len(groups) > 1:
                repo = hub.repos[groups[0]]
                if groups[1] not in {*repo["refs"], *repo["commits"]}:
                    return self.answer(404, {}, {"X-Error-Code": "RevisionNotFound"})
        return True

    def answer(self, status, value, headers=None):
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for key, text in ({"Content-Length": str(len(content))} | (headers or {})).items():
            self.send_header(key, text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        return False

    def make(self):
        asked, hub = json.loads(self.body), self.server.hub
        name = f"{asked.get('organization') or 'me'}/{asked['name']}"
        status = 409 if name in hub.repos else 200
        if status == 200:
            hub.create(name, private=asked.get("visibility") == "private")
        self.answer(status, {"url": f"{self.server.url}/{name}"})

    def check_card(self):
        matter = json.loads(self.body)["content"].split("---\n")[1]
        assert isinstance(yaml.safe_load(matter), dict)
        self.answer(200, {})

    def branch(self, name, branch):
        repo = self.server.hub.repos[name]
        known = branch in repo["refs"]
        repo["refs"].setdefault(branch, repo["refs"]["main"])
        self.answer(409 if known else 200, {})

    def modes(self, *_):
        asked = json.loads(self.body)["files"]
        kinds = {True: "lfs", False: "regular"}
        modes = [
            {
                "path": f["path"],
                "uploadMode": kinds[f["path"].endswith(".safetensors")],
                "shouldIgnore": False,
            }
            for f in asked
        ]
        self.answer(200, {"files": modes})

    def batch(self, *_):
        objects = [
            {**o, "actions": {"upload": {"href": f"{self.server.url}/lfs/{o['oid']}"}}}
            for o in json.loads(self.body)["objects"]
        ]
        self.answer(200, {"transfer": "basic", "objects": objects})

    def upload(self, oid):
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.server.hub.blobs[oid] = self.body
        self.answer(200, {})

    def commit(self, name, revision):
        changes, message = {}, ""
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                message = f"{value['summary']}|{value['description']}"
            elif item["key"] == "file":
                changes[value["path"]] = base64.b64decode(value["content"])
            else:
                changes[value["path"]] = self.server.hub.blobs[value["oid"]]
        sha = self.server.hub.commit(name, revision, changes, message)
        self.answer(200, {"commitUrl": f"{self.server.url}/{name}/commit/{sha}", "commitOid": sha})

    def info(self, name, revision="main"):
        refs = self.server.hub.repos[name]["refs"]
        sha = refs.get(revision, revision)
        self.answer(200, {"id": name, "modelId": name, "sha": sha, "siblings": [], "tags": []})

    def tree(self, name, sha):
        files = self.server.hub.files(name, sha)
        self.answer(200, [self.entry(path, content) for path, content in files.items()])

    def entry(self, path, content):
        return {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def head(self, name, sha, path):
        content = self.server.hub.files(name, sha)[path]
        tags = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": sha}
        self.answer(200, content, tags)

    file = head

    def log_message(self, *_):
        """Stay silent."""


@pytest.fixture
def hub(monkeypatch, tmp_path):
    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{server.server_port}"
    server.hub = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    settings = {
        "ENDPOINT": server.url,
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_TOKEN_PATH": str(tmp_path / "no token"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
    }
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield server.hub
    server.shutdown()
    thread.join()
    server.server_close()


def adapted(llama, **fields):
    torch.manual_seed(fields.pop("seed", 0))
    settings = {"r": 2, "init_lora_weights": False, "task_type": "CAUSAL_LM"} | fields
    return get_peft_model(llama(), LoraConfig(**settings)).eval()


def upload(hub, folder, name="me/adapter", branch="main", under=""):
    if name not in hub.repos:
        hub.create(name)
    files = {under + str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    return hub.commit(name, branch, files, "by hand")


def fetched(hub):
    return [path.rpartition("/")[2] for method, path in hub.asked if method == "GET" and "/resolve/" in path]


def test_what_is_pushed_is_what_is_pulled(llama, ids, hub):
    model = adapted(llama)
    record = model.push_to_hub("adapter", token=TOKEN)
    assert record.oid == hub.repos["me/adapter"]["refs"]["main"]
    files = hub.files("me/adapter")
    assert sorted(files) == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    assert hashlib.sha256(files["adapter_model.safetensors"]).hexdigest() in hub.blobs  # went by LFS
    again = PeftModel.from_pretrained(llama(), "me/adapter").eval()
    assert torch.equal(again(ids).logits, model(ids).logits)
    assert hub.repos["me/adapter"]["messages"][-1] == "Upload adapter|"


def test_a_push_is_one_commit_with_its_message_on_its_branch_of_a_private_repository(llama, ids, hub):
    model = adapted(llama)
    model.add_adapter("other", LoraConfig(r=3, init_lora_weights=False))
    settings = {"private": True, "revision": "next", "commit_message": "A", "commit_description": "B"}
    model.push_to_hub("org/adapter", token=TOKEN, provenance={"license": "MIT"}, **settings)
    assert "org/adapter" in hub.private
    assert hub.repos["org/adapter"]["messages"] == ["initial commit", "A|B"]
    assert hub.files("org/adapter") == {}
    names = ["README.md", "adapter_config.json", "adapter_model.safetensors", "adapter_provenance.json"]
    assert sorted(hub.files("org/adapter", "next")) == [*names, *(f"other/{name}" for name in names)]
    where = {"revision": "next", "token": TOKEN, "subfolder": "other"}
    loaded = PeftModel.from_pretrained(llama(), "org/adapter", **where).eval()
    model.set_adapter("other")
    assert torch.equal(loaded(ids).logits, model.eval()(ids).logits)
    with pytest.raises(
        AdapterError, match=r"no folder 'org/adapter', and no such repository .*RepositoryNotFound"
    ):
        PeftConfig.from_pretrained("org/adapter", revision="next", token=False)


def test_a_second_push_changes_the_repository(llama, ids, hub):
    adapted(llama).push_to_hub("me/adapter", token=TOKEN)
    model = adapted(llama, seed=1)
    model.push_to_hub("me/adapter", token=TOKEN)
    assert len(hub.repos["me/adapter"]["messages"]) == 3
    again = PeftModel.from_pretrained(llama(), "me/adapter", force_download=True).eval()
    assert torch.equal(again(ids).logits, model(ids).logits)


def test_revisions_branches_and_commits_are_told_apart(llama, ids, hub, tmp_path):
    first, second = adapted(llama), adapted(llama, seed=1)
    first.save_pretrained(tmp_path / "first")
    second.save_pretrained(tmp_path / "second")
    sha = upload(hub, tmp_path / "first")
    upload(hub, tmp_path / "second")
    for revision, expected in ((sha, first), ("main", second), (None, second)):
        found = PeftModel.from_pretrained(llama(), "me/adapter", revision=revision).eval()
        assert torch.equal(found(ids).logits, expected(ids).logits)
    with pytest.raises(AdapterError, match=r"at revision 'gone' can be fetched \(RevisionNotFoundError"):
        PeftModel.from_pretrained(llama(), "me/adapter", revision="gone")


def test_an_adapter_in_a_subfolder_is_loaded_beside_another(llama, ids, hub, tmp_path):
    model = adapted(llama)
    model.save_pretrained(tmp_path / "saved")
    upload(hub, tmp_path / "saved", under="deep/er/")
    other = adapted(llama, seed=1)
    other.load_adapter("me/adapter", "second", subfolder="deep/er")
    other.set_adapter("second")
    assert torch.equal(other.eval()(ids).logits, model(ids).logits)


def test_a_configuration_is_fetched_without_the_weights(llama, hub, tmp_path):
    model = adapted(llama)
    model.save_pretrained(tmp_path / "saved")
    upload(hub, tmp_path / "saved")
    assert PeftConfig.from_pretrained("me/adapter").r == 2
    assert fetched(hub) == ["adapter_config.json"]
    PeftModel.from_pretrained(llama(), "me/adapter")
    assert sorted(fetched(hub)) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]  # no card, nothing twice


def test_the_cache_serves_when_the_hub_is_gone(llama, ids, hub, tmp_path, monkeypatch):
    from huggingface_hub import constants

    model = adapted(llama)
    model.save_pretrained(tmp_path / "saved")
    upload(hub, tmp_path / "saved")
    PeftModel.from_pretrained(llama(), "me/adapter", cache_dir=tmp_path / "mine")
    assert (tmp_path / "mine" / "models--me--adapter").is_dir()
    asked = len(hub.asked)
    kept = {"cache_dir": tmp_path / "mine", "local_files_only": True}
    again = PeftModel.from_pretrained(llama(), "me/adapter", **kept).eval()
    assert torch.equal(again(ids).logits, model(ids).logits)
    assert len(hub.asked) == asked
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    PeftModel.from_pretrained(llama(), "me/adapter", cache_dir=tmp_path / "mine")
    with pytest.raises(AdapterError, match=r"no such repository can be fetched \(LocalEntryNotFoundError"):
        PeftModel.from_pretrained(llama(), "me/adapter", cache_dir=tmp_path / "empty")
    with pytest.raises(AdapterError, match="the hub did not take 'me/adapter'"):
        model.push_to_hub("me/adapter", token=TOKEN)


def test_a_hub_that_does_not_answer_is_an_adapter_error(llama, hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(AdapterError, match="no folder 'me/adapter', and no such repository can be fetched"):
        PeftConfig.from_pretrained("me/adapter")
    with pytest.raises(AdapterError, match="the hub did not take 'me/adapter'"):
        adapted(llama).push_to_hub("me/adapter", token=TOKEN)


def test_an_old_adapter_of_the_hub_is_read(llama, ids, hub, tmp_path):
    model = adapted(llama)
    model.save_pretrained(tmp_path / "saved")
    weights = tmp_path / "saved" / "adapter_model.safetensors"
    torch.save(load_file(weights), tmp_path / "saved" / "adapter_model.bin")
    weights.unlink()
    upload(hub, tmp_path / "saved")
    again = PeftModel.from_pretrained(llama(), "me/adapter").eval()
    assert torch.equal(again(ids).logits, model(ids).logits)


def test_where_tensors_go_is_up_to_the_model_and_other_arguments_are_refused(llama, tmp_path):
    adapted(llama).save_pretrained(tmp_path)
    PeftModel.from_pretrained(llama(), tmp_path, device_map="auto", torch_device="cpu")
    with pytest.raises(AdapterError, match="no argument is called key_mapping; leave it out"):
        PeftModel.from_pretrained(llama(), tmp_path, key_mapping={})


@pytest.mark.parametrize("name", ["me/absent", "absent", "not a name!"])
def test_a_repository_that_is_not_there_is_an_adapter_error(llama, hub, name):
    with pytest.raises(AdapterError, match=f"no folder '{name}', and no such repository can be fetched"):
        PeftModel.from_pretrained(llama(), name, token=TOKEN)


def test_a_push_without_a_token_is_an_adapter_error(llama, hub):
    with pytest.raises(AdapterError, match="the hub did not take 'me/adapter'"):
        adapted(llama).push_to_hub("me/adapter")
    assert hub.repos == {}


def test_a_repository_without_an_adapter_says_what_it_lacks(llama, hub):
    hub.create("me/empty")
    with pytest.raises(AdapterError, match=r"the repository 'me/empty' has no adapter_config\.json in 'sub'"):
        PeftModel.from_pretrained(llama(), "me/empty", subfolder="sub")


def test_base_and_adapter_are_found_by_the_repository_alone(llama, ids, hub, tmp_path):
    llama().save_pretrained(tmp_path / "base")
    base = type(llama()).from_pretrained(tmp_path / "base")
    model = get_peft_model(base, LoraConfig(r=2, init_lora_weights=False, task_type="CAUSAL_LM")).eval()
    model.save_pretrained(tmp_path / "saved")
    upload(hub, tmp_path / "saved", under="sub/")
    hub.private.add("me/adapter")
    where = {"token": TOKEN, "subfolder": "sub"}
    again = AutoPeftModelForCausalLM.from_pretrained("me/adapter", **where).eval()
    assert torch.equal(again(ids).logits, model(ids).logits)


def test_a_tokenizer_beside_the_adapter_makes_room_in_the_embeddings(llama, ids, hub, tmp_path):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {f"t{number}": number for number in range(34)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="t0"))
    llama().save_pretrained(tmp_path / "base")
    base = type(llama()).from_pretrained(tmp_path / "base")
    base.resize_token_embeddings(34)
    config = LoraConfig(r=2, init_lora_weights=False, modules_to_save=["embed_tokens", "lm_head"])
    model = get_peft_model(base, config).eval()
    model.save_pretrained(tmp_path / "saved")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(tmp_path / "saved")
    upload(hub, tmp_path / "saved")
    for place in (tmp_path / "saved", "me/adapter"):
        again = AutoPeftModel.from_pretrained(place).eval()
        assert torch.equal(again(ids + 22).logits, model(ids + 22).logits)
