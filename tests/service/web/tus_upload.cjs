// Sends a file to an upload that was begun, with the public client: node tus_upload.cjs URL FILE CHUNK_BYTES
"use strict";
const fs = require("fs");
const tus = require("tus-js-client");

const [uploadUrl, path, chunkBytes] = process.argv.slice(2);
const upload = new tus.Upload(fs.createReadStream(path), {
  uploadUrl,
  uploadSize: fs.statSync(path).size,
  chunkSize: Number(chunkBytes),
  retryDelays: Array(200).fill(10),
  onError: (error) => {
    console.error(String(error));
    process.exit(1);
  },
  onSuccess: () => process.exit(0),
});
upload.start();
