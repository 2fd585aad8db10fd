import { startSandbox } from './server.ts'

// The stand-in platform as a process: `node sandbox/main.ts [port]`; the README lists the variables.
const { PORT, HOST, PUBLIC_URL, CLIENT_ID, CLIENT_SECRET, LENGTH_REQUIRED, WEBHOOK_URL, WEBHOOK_SECRET } =
  process.env
const sandbox = await startSandbox({
  port: Number(process.argv[2] ?? PORT ?? 0),
  ...(HOST ? { host: HOST } : {}),
  ...(PUBLIC_URL ? { publicUrl: PUBLIC_URL } : {}),
  ...(CLIENT_ID ? { clientId: CLIENT_ID } : {}),
  ...(CLIENT_SECRET ? { clientSecret: CLIENT_SECRET } : {}),
  knobs: {
    require_length: LENGTH_REQUIRED === 'true',
    webhook: WEBHOOK_URL && WEBHOOK_SECRET ? { url: WEBHOOK_URL, secret: WEBHOOK_SECRET } : null,
  },
})
console.log(`sandbox platform on ${sandbox.url}`)
process.send?.({ url: sandbox.url })

let closing = false
async function stop(): Promise<void> {
  if (closing) return
  closing = true
  await sandbox.close()
  process.exit()
}
for (const event of ['SIGINT', 'SIGTERM'] as const) process.on(event, stop)
// A forked sandbox does not outlive its parent.
process.once('disconnect', stop)
