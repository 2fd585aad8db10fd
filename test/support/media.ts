import { copyFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { AV_LOG_FATAL } from 'node-av/constants'
import { Log } from 'node-av/lib'
import { type PatternOptions, writeTestPattern } from '../../sandbox/test-pattern.ts'

const made = new Map<string, Promise<string>>()
let directory: Promise<string> | undefined

/**
 * Writes a small real mp4 (test pattern and tone) to `path` and resolves to it.
 * Files with the same options are made once a process; `removeMade` drops them.
 */
export async function makeMp4(options: PatternOptions): Promise<string> {
  const { path, ...rest } = options
  const key = JSON.stringify(Object.entries(rest).sort())
  let source = made.get(key)
  if (!source) {
    source = make(rest, made.size)
    made.set(key, source)
  }
  await copyFile(await source, path)
  return path
}

/** Removes the files made so far; call it in the last teardown. */
export async function removeMade(): Promise<void> {
  await Promise.allSettled(made.values())
  made.clear()
  if (directory) await rm(await directory, { recursive: true, force: true })
  directory = undefined
}

async function make(options: Omit<PatternOptions, 'path'>, number: number): Promise<string> {
  Log.setLevel(AV_LOG_FATAL)
  directory ??= mkdtemp(join(tmpdir(), 'media-'))
  const path = join(await directory, `${number}.mp4`)
  await writeTestPattern({ ...options, path })
  return path
}
