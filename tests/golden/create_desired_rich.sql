create or replace view "contact"."desired" as
select "contactid" as "externalId",
       nullif("firstname", '') as "firstName",
       nullif("emailaddress1", '') as "email",
       "birthdate" as "birthDate",
       nullif("firstname", '') as "location.city",
       "numberofchildren" as "cusChildren",
       cast("creditlimit" as double) as "cusCredit",
       "donotemail" as "cusFlag",
       date_trunc('milliseconds', "modifiedon") as "lastContact"
from "contact"."snapshot";
