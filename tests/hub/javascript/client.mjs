// What a web page or a Node program does with a dataset: node client.mjs HUB TOKEN REPO MINE
// Prints what it found as JSON. REPO is read, MINE is made.
import { commit, createRepo, datasetInfo, downloadFile, listCommits, listFiles, uploadFiles, whoAmI } from "@huggingface/hub";

const [hubUrl, accessToken, name, mine] = process.argv.slice(2);
const repo = { type: "dataset", name };
const own = { type: "dataset", name: mine };
const asOwner = { hubUrl, accessToken, repo: own };
const collect = async (iterator) => {
  const found = [];
  for await (const item of iterator) found.push(item);
  return found;
};
const hex = async (blob) => Buffer.from(await blob.arrayBuffer()).toString("hex");
const refusal = (promise) => promise.then(() => "accepted", (error) => error.statusCode);

const files = await collect(listFiles({ hubUrl, repo, recursive: true, revision: "v1" }));
const parquet = files.find((file) => file.path.endsWith(".parquet"));
const whole = await downloadFile({ hubUrl, repo, path: parquet.path, revision: "v1" });
const index = await downloadFile({ hubUrl, repo, path: "hepfm.json" });

await createRepo({ ...asOwner, visibility: "private" });
const large = new Uint8Array(3_000_000).map((_, i) => i % 251);
await uploadFiles({
  ...asOwner,
  commitTitle: "two files",
  files: [
    { path: "data/large.parquet", content: new Blob([large]) },
    { path: "notes.txt", content: new Blob(["of text"]) },
  ],
});
const done = await commit({
  ...asOwner,
  title: "one less",
  operations: [{ operation: "delete", path: "notes.txt" }],
});
const back = await downloadFile({ ...asOwner, path: "data/large.parquet" });

console.log(JSON.stringify({
  user: (await whoAmI({ hubUrl, accessToken })).name,
  id: (await datasetInfo({ hubUrl, name })).name,
  files: Object.fromEntries(files.filter((file) => file.type === "file").map((file) => [file.path, file.size])),
  parquet: { path: parquet.path, size: whole.size, whole: await hex(whole), ends: [await hex(whole.slice(0, 4)), await hex(whole.slice(whole.size - 4))] },
  index: JSON.parse(await index.text()).format,
  missing: await downloadFile({ hubUrl, repo, path: "none.txt" }),
  commits: (await collect(listCommits(asOwner))).map((entry) => entry.title),
  head: done.commit.oid,
  own: (await collect(listFiles({ ...asOwner, recursive: true }))).filter((file) => file.type === "file").map((file) => file.path),
  same: Buffer.from(await back.arrayBuffer()).equals(Buffer.from(large)),
  slice: await hex(back.slice(250, 254)),
  refused: {
    anonymous: await refusal(downloadFile({ hubUrl, repo: own, path: "data/large.parquet" })),
    stranger: await refusal(uploadFiles({ hubUrl, accessToken, repo: { type: "dataset", name: "someone/else" }, files: [{ path: "a", content: new Blob(["a"]) }] })),
    stale: await refusal(commit({ ...asOwner, title: "late", parentCommit: "0".repeat(40), operations: [{ operation: "delete", path: "data/large.parquet" }] })),
    path: await refusal(uploadFiles({ ...asOwner, files: [{ path: "a/../b", content: new Blob(["a"]) }] })),
  },
}));
