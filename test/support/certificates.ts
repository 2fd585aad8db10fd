import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Key and certificate in PEM. */
export interface Certificate {
  key: string
  cert: string
}

export interface Authority {
  /** Its certificate, for `NODE_EXTRA_CA_CERTS`. */
  file: string
  /** Issues a certificate for a name; one of another authority is not trusted. */
  issue(name: string): Certificate
}

export const noOpenssl = spawnSync('openssl', ['version']).error ? 'openssl is not installed' : false

/** A certificate authority whose files are in this directory. */
export function createAuthority(directory: string): Authority {
  const path = (name: string) => join(directory, name)
  const run = (...args: string[]) => {
    const { status, stderr } = spawnSync('openssl', args, { encoding: 'utf8' })
    if (status !== 0) throw new Error(stderr)
  }
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  const [key, file] = [path('ca.key'), path('ca.pem')]
  run('req', '-x509', ...newKey, '-days', '2', '-subj', '/CN=test', '-keyout', key, '-out', file)
  return {
    file,
    issue(name) {
      const [ownKey, request, cert, extensions] = ['key', 'csr', 'pem', 'ext'].map((end) =>
        path(`leaf.${end}`),
      )
      run('req', ...newKey, '-subj', `/CN=${name}`, '-keyout', ownKey!, '-out', request!)
      writeFileSync(extensions!, `subjectAltName=DNS:${name}`)
      const signing = ['-CA', file, '-CAkey', key, '-CAcreateserial', '-days', '1', '-extfile', extensions!]
      run('x509', '-req', '-in', request!, ...signing, '-out', cert!)
      return { key: readFileSync(ownKey!, 'utf8'), cert: readFileSync(cert!, 'utf8') }
    },
  }
}
