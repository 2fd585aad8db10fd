import { readFileSync, writeFileSync } from 'node:fs'

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

function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // The second field is the name in brackets, which may hold spaces; utime and stime are fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / ticks
}
