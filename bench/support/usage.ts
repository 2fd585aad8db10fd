import { readdirSync, readFileSync, writeFileSync } from 'node:fs'

/** What a process has cost since `watch`: CPU in seconds (user + system), memory in bytes. */
export interface Usage {
  cpu: number
  peakMemory: number
}

/** Clock ticks a second: USER_HZ, 100 on every Linux that Node runs on (proc_pid_stat(5)). */
const ticks = 100

/** Starts to measure a process. The peak of its memory is forgotten first (clear_refs 5, proc_pid_clear_refs(5)). */
export function watch(pid: number): () => Usage {
  writeFileSync(`/proc/${pid}/clear_refs`, '5')
  const before = cpuSeconds(pid)
  return () => ({ cpu: cpuSeconds(pid) - before, peakMemory: memory(pid, 'VmHWM') })
}

/** Resident memory now, or at its highest, in bytes. */
export function memory(pid: number, field: 'VmRSS' | 'VmHWM' = 'VmRSS'): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? Number.NaN) * 1024
}

/**
 * CPU seconds of a process and its children so far, those that have ended included. PostgreSQL has a process per
 * connection.
 */
export function cpuOfTree(pid: number): number {
  const children = readdirSync('/proc').filter((name) => {
    try {
      return /^\d+$/.test(name) && statOf(Number(name))[1] === String(pid)
    } catch {
      // It ended meanwhile.
      return false
    }
  })
  const own = statOf(pid)
  // cutime and cstime are fields 16 and 17.
  const ended = (Number(own[13]) + Number(own[14])) / ticks
  return [pid, ...children.map(Number)].reduce((sum, id) => sum + cpuSeconds(id), ended)
}

function cpuSeconds(pid: number): number {
  const fields = statOf(pid)
  return (Number(fields[11]) + Number(fields[12])) / ticks
}

/** The fields of /proc/PID/stat from the third on: state, parent, …; utime and stime are fields 14 and 15. */
function statOf(pid: number): string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // The second field is the name in brackets, which may hold spaces.
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
}
