import { createServer, connect } from "node:net";
import { Lab } from "@isthmus/lab";
import { portOf, twoHomes, until } from "@isthmus/e2e";
await using lab = await Lab.create();
const delay = Number(process.argv[2] ?? 0);
const { alice, bob, deployment } = await twoHomes(lab, delay ? { delayMs: delay } : {});
const srv = bob.node.spawn(process.execPath, ["-e", `require("node:net").createServer(s=>{s.on("error",()=>{});s.once("data",()=>s.end("x"))}).listen(9000,"127.0.0.1",()=>console.log("up"))`], { uid: 65534 });
await srv.waitForOutput(/up/);
await bob.provide("web", "--tcp", "127.0.0.1:9000", "--allow", "alice");
const sub = await alice.subscribe("web@bob");
await until("joined", async () => (await alice.status()).subscriptions[0]?.tcp?.path === "cell" ? true : undefined);
const script = `
const net=require("node:net");const t=[];
async function one(){const s=performance.now();const c=net.connect(${portOf(sub)},"127.0.0.1");c.on("error",e=>console.log(e.message));c.on("connect",()=>c.write("a"));await new Promise(r=>c.once("data",r));t.push(performance.now()-s);c.destroy();}
(async()=>{const n=${Number(process.argv[3] ?? 300)};const b=performance.now();for(let i=0;i<n;i++)await one();const all=performance.now()-b;const f=t.slice(20).sort((a,b)=>a-b);console.log(JSON.stringify({n,median:f[f.length>>1],p90:f[Math.floor(f.length*.9)],min:f[0],rate:n/all*1000}))})()`;
const before = { a: alice.program.resources(), b: bob.program.resources(), i: deployment.ist.program.resources() };
console.log((await alice.node.run(process.execPath, ["-e", script], { timeoutMs: 120000 })));
const after = { a: alice.program.resources(), b: bob.program.resources(), i: deployment.ist.program.resources() };
console.log(JSON.stringify({ before, after }, null, 1));
