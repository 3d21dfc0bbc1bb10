// An application as one writes it with Express 4 or 5: node app.js DIRECTORY PORT, where DIRECTORY has the modules.
// Each answer names the resource that served it (x-resource) and the request target as it arrived (x-target).
"use strict"
const [directory, port] = process.argv.slice(2)
const { createRequire } = require("module")
const load = createRequire(require("path").resolve(directory) + "/node_modules/")
const express = load("express")
const methodOverride = load("method-override")

const app = express()
// What an application behind a proxy switches on: it believes X-Forwarded-*.
app.set("trust proxy", true)
app.use((request, answer, next) => {
  answer.set("x-target", Buffer.from(request.originalUrl, "latin1").toString("base64"))
  answer.set("x-host", encodeURIComponent(request.hostname ?? ""))
  answer.set("x-client", encodeURIComponent(request.ip ?? ""))
  next()
})
for (const name of ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"]) {
  app.use(methodOverride(name, { methods: null }))
}

const serve = (resource) => (_, answer) => answer.set("x-resource", resource).send(resource)
app.use("/admin", serve("admin"))
app.get("/reports/:id/secret", serve("secret"))
app.get("/reports/:id", serve("report"))
app.use("/orders", serve("orders"))
app.get("/api/items", serve("items"))
app.post("/api/items", serve("item-changed"))
app.delete("/api/items", serve("item-changed"))
app.put("/api/items", serve("item-changed"))
app.use(serve("other"))
app.use((error, _request, answer, _next) => answer.status(error.status ?? 500).set("x-resource", "error").send("error"))
app.listen(Number(port), "127.0.0.1")
