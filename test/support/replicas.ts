import type { Test } from 'tap'
import type { Sandbox } from '../../sandbox/server.ts'
import type { Line } from './back-office.ts'
import { freePort } from './ports.ts'
import { type GatewayProcess, startProcess } from './process.ts'

export interface Replicas extends Line {
  /** A replica that was stopped is undefined until it is started again. */
  processes: (GatewayProcess | undefined)[]
  /** Ends one and starts it again. @returns its exit code or signal */
  restart(index: number, signal: NodeJS.Signals): Promise<number | NodeJS.Signals | undefined>
}

/** Gateways on one database, three or so many. `gateway` is each of the living ones in turn, as a load balancer has it. */
export async function startReplicas(
  t: Test,
  sandbox: Sandbox,
  env: Record<string, string>,
  count = 3,
): Promise<Replicas> {
  const ports = await Promise.all(Array.from({ length: count }, freePort))
  const start = (index: number) =>
    startProcess(
      t,
      { SANDBOX_BASE_URL: sandbox.url, PORT: String(ports[index]), ...env },
      'test/support/crash-gateway.ts',
    )
  const processes: (GatewayProcess | undefined)[] = await Promise.all(ports.map((_, index) => start(index)))
  let turn = 0
  return {
    processes,
    get gateway() {
      const living = processes.filter((one) => one !== undefined)
      return living[turn++ % living.length]
    },
    async restart(index, signal) {
      const victim = processes[index]
      processes[index] = undefined
      const end = await victim?.kill(signal)
      processes[index] = await start(index)
      return end
    },
  }
}
