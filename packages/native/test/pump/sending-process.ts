import { connect } from "node:net";
import { resetUnlessFinished } from "../../src/pump/index.ts";

/** Sends something, ends it in order or not, and waits to be killed. */
const [port, how] = process.argv.slice(2);
const socket = connect({ port: Number(port), host: "127.0.0.1", allowHalfOpen: true });
socket.once("connect", () => {
  resetUnlessFinished(socket);
  if (how === "finished") socket.end("all of it");
  else socket.write("a part of it");
});
setInterval(() => undefined, 1000);
