import { type Provider, read, write } from './shape.ts'

const tenant = '72f988bf-86f1-41af-91ab-2d7cd011db47'
const app = '6731de76-14a6-49ae-97bc-6eba6914391e'
const client = '11112222-bbbb-3333-cccc-4444dddd5555'

export const entraId: Provider[] = [
  {
    name: 'Entra ID: delegated, version 2',
    path: `/${tenant}/v2.0`,
    env: { OAUTH_AUDIENCE: app },
    header: { typ: 'JWT' },
    tokens: [
      {
        what: 'user',
        payload: {
          aud: app,
          azp: client,
          azpacr: '0',
          scp: 'videos:read videos:write',
          sub: 's',
          tid: tenant,
          ver: '2.0',
        },
        name: client,
        scopes: [read, write],
      },
      {
        what: 'for another API',
        payload: {
          aud: '00000003-0000-0000-c000-000000000000',
          azp: client,
          scp: read,
          sub: 's',
          ver: '2.0',
        },
        scopes: 'refused',
      },
      {
        what: 'ID token of the same registration',
        payload: { aud: app, sub: 's', tid: tenant, ver: '2.0', name: 'A', rh: '0' },
        scopes: 'refused',
      },
    ],
  },
  {
    name: 'Entra ID: app-only, version 2',
    path: `/${tenant}/v2.0`,
    env: {
      OAUTH_AUDIENCE: app,
      OAUTH_SCOPE_CLAIMS: 'scp,roles',
      OAUTH_SCOPE_MAP: 'Videos.ReadWrite.All=videos:read+videos:write',
    },
    header: { typ: 'JWT' },
    tokens: [
      {
        what: 'app role in the words of Microsoft',
        payload: {
          aud: app,
          azp: client,
          azpacr: '1',
          oid: 'o',
          roles: ['Videos.ReadWrite.All'],
          sub: 'o',
          ver: '2.0',
        },
        name: client,
        scopes: [read, write],
      },
      {
        what: 'app role named like a scope',
        payload: { aud: app, azp: client, roles: [read], sub: 'o', ver: '2.0' },
        name: client,
        scopes: [read],
      },
      { what: 'no role assigned', payload: { aud: app, azp: client, sub: 'o', ver: '2.0' }, scopes: [] },
      {
        what: 'user, in the same configuration',
        payload: { aud: app, azp: client, scp: read, sub: 's', ver: '2.0' },
        name: client,
        scopes: [read],
      },
      {
        what: 'ID token of a user who has the role',
        payload: { aud: app, sub: 's', roles: ['Videos.ReadWrite.All'], ver: '2.0' },
        scopes: 'refused',
      },
    ],
  },
  {
    name: 'Entra ID: version 1, with either form of the audience',
    path: `/${tenant}/`,
    env: { OAUTH_AUDIENCE: `api://${app}, ${app}`, OAUTH_SCOPE_CLAIMS: 'scp,roles' },
    header: { typ: 'JWT', x5t: 'one' },
    tokens: [
      {
        what: 'app-only',
        payload: { aud: `api://${app}`, appid: client, appidacr: '1', roles: [read], sub: 'o', ver: '1.0' },
        name: client,
        scopes: [read],
      },
      {
        what: 'user',
        payload: { aud: app, appid: client, scp: read, sub: 's', unique_name: 'a@b.example', ver: '1.0' },
        name: client,
        scopes: [read],
      },
    ],
  },
]
